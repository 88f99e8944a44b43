import jax
import keras
import numpy as np
import pytest

import jaxconv
from experiments.benchmarks.keras_nets import SHAPE
from jaxconv.export import load_weights
from jaxconv.training import average_weights, averaged, fit_seeds, keep_best, kept
from jaxconv.training.schedule import Schedule
from tests.support.oracles import bits

MODEL = jaxconv.create_model("dense", hidden=())
NET = jaxconv.classifier(MODEL, jaxconv.adam(0.3))  # so large that the loss goes up and down
GIVEN = {"epochs": 12, "batch_size": 32}


def begin(net=NET, seed: int = 0):
    return keep_best(net.init(jax.random.key(seed), SHAPE))


def test_it_ends_and_keeps_as_keras_early_stopping(digits, tmp_path):
    """The same batches in the same order: the same last epoch, and the same best weights."""
    path = tmp_path / "net.weights.h5"
    keras.utils.set_random_seed(1)
    layers = [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(10)]
    theirs = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs.compile(keras.optimizers.Adam(0.3), loss)
    theirs.save_weights(path)
    train, test = digits.train[:100], digits.test
    stop = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
    fitted = theirs.fit(
        train.image / np.float32(255),
        train.label,
        validation_data=(test.image / np.float32(255), test.label),
        shuffle=False,
        callbacks=[stop],
        verbose=0,
        **GIVEN,
    )
    state = keep_best(NET.init(jax.random.key(0), SHAPE, params=load_weights(path, MODEL, SHAPE)))
    theirs.save_weights(path)
    state, rows = jaxconv.fit(
        NET, state, train, validation=test, shuffle=False, early_stopping=3, **GIVEN
    )
    expected = fitted.history["val_loss"]
    assert 3 < len(rows) < 12
    np.testing.assert_allclose([row["val_loss"] for row in rows], expected, rtol=1e-3)
    best = load_weights(path, MODEL, SHAPE)["logits"]["kernel"]
    np.testing.assert_allclose(kept(state).params["logits"]["kernel"], best, atol=1e-3)
    assert np.abs(state.params["logits"]["kernel"] - best).max() > 0.1


def test_training_itself_stays_the_same_to_the_bit(digits):
    """The best net is that of a training which ends at its epoch."""
    given = GIVEN | {"validation": digits.test}
    plain, rows = jaxconv.fit(NET, NET.init(jax.random.key(0), SHAPE), digits.train[:100], **given)
    state, again = jaxconv.fit(NET, begin(), digits.train[:100], **given)
    assert bits(state._replace(best=())) == bits(plain)
    assert [row["val_loss"] for row in again] == [row["val_loss"] for row in rows]
    epoch = int(np.argmin([row["val_loss"] for row in rows])) + 1
    assert epoch < 12
    shorter, _ = jaxconv.fit(
        NET, NET.init(jax.random.key(0), SHAPE), digits.train[:100], **given | {"epochs": epoch}
    )
    jax.tree.map(np.testing.assert_array_equal, kept(state).params, shorter.params)


def test_the_best_of_an_average_is_an_average(digits):
    net = jaxconv.classifier(MODEL, average_weights(jaxconv.adam(), 0.9))
    given = {"epochs": 1, "batch_size": 32, "validation": digits.test}
    state, _ = jaxconv.fit(net, begin(net), digits.train[:100], **given)
    jax.tree.map(np.testing.assert_array_equal, kept(state).params, averaged(state).params)


def test_each_replica_ends_by_itself_and_is_tested_with_its_best_net(digits):
    given = GIVEN | {"validation": digits.train[100:160], "early_stopping": 2}
    states, histories = fit_seeds(
        NET, lambda seed: begin(seed=seed), [0, 1, 2], digits.train[:100], test=digits.test, **given
    )
    lengths = [len(rows) for rows in histories]
    assert len(set(lengths)) > 1
    for i, rows in enumerate(histories):
        alone, own = jaxconv.fit(NET, begin(seed=i), digits.train[:100], **given)
        assert len(own) == lengths[i]
        one = jax.tree.map(lambda x, i=i: x[i], states)
        assert bits(one) == bits(alone)
        assert ["test_loss" in row for row in rows] == [False] * (len(rows) - 1) + [True]
        found = jaxconv.evaluate(NET, kept(alone), digits.test)
        assert rows[-1]["test_loss"] == pytest.approx(found["loss"], rel=1e-6)
        assert rows[-1]["raw_test_loss"] == pytest.approx(
            jaxconv.evaluate(NET, alone, digits.test)["loss"], rel=1e-6
        )


def test_a_loss_that_is_no_number_is_no_improvement():
    schedule = Schedule(epochs=9, batch_size=64, early_stopping=2)
    losses = [float("nan"), 0.5, float("nan"), 0.4, float("inf"), float("nan")]
    rows = [{"val_loss": x} for x in losses]
    assert [schedule.stops(rows[: i + 1]) for i in range(6)] == [*[False] * 5, True]


@pytest.mark.parametrize(
    ("start", "settings", "message"),
    [
        (begin, {}, "compare the loss on held-out samples: pass validation"),
        (lambda: begin()._replace(best=()), {"early_stopping": 2}, "pass validation"),
        (begin, {"early_stopping": 0}, "early_stopping must be a positive integer, not 0"),
    ],
)
def test_what_makes_no_sense_is_refused(digits, start, settings, message):
    with pytest.raises(ValueError, match=message):
        jaxconv.fit(NET, start(), digits.train[:100], **GIVEN, **settings)
    with pytest.raises(ValueError, match=message):
        fit_seeds(NET, lambda _: start(), [0], digits.train[:100], **GIVEN, **settings)


def test_a_group_cannot_end_together(digits):
    with pytest.raises(ValueError, match="group must be 1, not 4"):
        fit_seeds(NET, begin, [0], digits.train[:100], early_stopping=2, group=4, **GIVEN)
