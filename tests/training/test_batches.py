import functools

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv import create_model, create_train_state, evaluate, fit
from jaxconv.training._batches import on_device

MODEL, TX = create_model("dense", hidden=(16,)), jaxconv.adam()
NET = jaxconv.classifier(MODEL, TX)


def test_arrays_on_a_device_stay_there_and_others_come(digits):
    image = jax.device_put(digits.test.image)
    found = on_device({"image": image, "label": digits.test.label})
    assert found["image"] is image
    np.testing.assert_array_equal(found["label"], digits.test.label)
    assert isinstance(found["label"], jax.Array)


def test_a_split_is_its_batch(digits):
    assert on_device(digits.test).keys() == {"image", "label"}


@pytest.mark.usefixtures("untyped")
def test_data_that_is_no_split_is_refused(digits):
    state = create_train_state(MODEL, TX, jax.random.key(0), (28, 28, 1))
    run = functools.partial(fit, NET, state, epochs=1, batch_size=8)
    batch = digits.test.batch()
    for broken in (
        {**batch, "label": batch["label"][:60]},
        {name: x[:0] for name, x in batch.items()},
        {**batch, "label": 3},
        {"label": 28},
        {},
    ):
        with pytest.raises(ValueError, match=r"same number of samples, at least one, not"):
            evaluate(NET, state, broken)
        with pytest.raises(ValueError, match=r"same number of samples"):
            run(broken)
    with pytest.raises(TypeError, match=r"such as data\.train"):
        run(digits)
