"""A few hundred real digits, on which the tests train."""

import jaxconv


def load_digits(*_: object, **__: object) -> jaxconv.Dataset:
    """The data set; it ignores its arguments, so that it can stand in for `load_dataset`.

    300 and 70 samples leave partial batches of every usual size.
    """
    mnist = jaxconv.load_dataset("mnist")
    return jaxconv.Dataset("digits", mnist.train[:300], mnist.test[:70], num_classes=10)
