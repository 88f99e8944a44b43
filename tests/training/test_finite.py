import jax
import numpy as np
import optax
import pytest

import jaxconv
from jaxconv import fit

SHAPE = (28, 28, 1)
MODEL, TX = jaxconv.create_model("dense", hidden=(16,)), jaxconv.adam()
NET = jaxconv.classifier(MODEL, TX)


def new_state():
    return NET.init(jax.random.key(0), SHAPE)


def poisoned(digits, step: int, value: float):
    """The digits, with a pixel of that value in the batch of that step if nothing shuffles them."""
    image = digits.train.image.astype(np.float32) / 255
    image[64 * (step - 1) + 7, 14, 14] = value
    return {"image": image, "label": digits.train.label}


@pytest.mark.parametrize("chunks", [1, 2, 20])
@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), (float("inf"), "nan|inf")])
def test_a_loss_that_is_not_finite_ends_the_training_with_its_step(chunks, value, shown, digits):
    run = {"epochs": 2, "batch_size": 64, "shuffle": False}
    saved = []
    with pytest.raises(
        FloatingPointError, match=rf"The loss is ({shown}) at step 3 of epoch 1.*rate"
    ):
        fit(
            NET,
            new_state(),
            poisoned(digits, 3, value),
            chunks=chunks,
            save=lambda state, point: saved.append(point.step),
            **run,
        )
    assert saved == {1: [], 2: [], 20: [1, 2]}[chunks]
    _, history = fit(NET, new_state(), poisoned(digits, 3, value), check_finite=False, **run)
    assert not np.isfinite(history[0]["loss"])


def test_parameters_that_are_not_finite_are_never_saved(digits):
    """The last loss is from before the last update, so only the parameters show it."""
    tx = optax.chain(
        optax.sgd(0.1), optax.stateless(lambda updates, _: jax.tree.map(lambda x: x / 0, updates))
    )
    net = jaxconv.classifier(MODEL, tx)
    saved = []
    with pytest.raises(
        FloatingPointError, match="A parameter is no longer finite after step 1, in"
    ):
        fit(
            net,
            net.init(jax.random.key(0), SHAPE),
            digits.train,
            epochs=1,
            batch_size=300,
            save=lambda *state_and_point: saved.append(state_and_point),
        )
    assert not saved


def test_an_optimizer_that_skips_bad_steps_trains_on(digits):
    tx = optax.apply_if_finite(jaxconv.adam(), 3)
    net = jaxconv.classifier(MODEL, tx)
    run = {"epochs": 1, "batch_size": 64}
    data = poisoned(digits, 2, float("nan"))
    state, _ = fit(
        net, net.init(jax.random.key(0), SHAPE), data, shuffle=False, check_finite=False, **run
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(state.params)))
