"""A few hundred real digits, on which the tests train."""

import jaxconv


def load_digits(*_: object, **__: object) -> jaxconv.Dataset:
    """The data set; it ignores its arguments, so that it can stand in for `load_dataset`.

    300 and 70 samples leave partial batches of every usual size.
    """
    mnist = jaxconv.load_dataset("mnist")
    train, test = mnist.train, mnist.test
    arrays = (train.image[:300], train.label[:300], test.image[:70], test.label[:70])
    return jaxconv.Dataset.from_arrays(*arrays, num_classes=10, name="digits")
