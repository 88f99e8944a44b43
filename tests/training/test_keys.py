import ast
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv.training import augment_keys, dropout_key, epoch_permutation, init_key, order_key
from jaxconv.training.keys import as_key

ROOT_KEYS = [jax.random.key(0), jax.random.key(2**32 - 1)]
POSITIONS = np.arange(1000)


def key_data(keys) -> np.ndarray:
    """The bits of keys, a row for each."""
    return np.asarray(jax.random.key_data(keys)).reshape(-1, 2)


def test_an_older_key_becomes_a_typed_one_and_a_typed_one_stays():
    raw, typed = jax.random.PRNGKey(5), jax.random.key(5)
    assert as_key(raw) == typed
    assert as_key(np.asarray(raw)) == typed
    assert as_key(typed) is typed


@pytest.mark.parametrize("rng", ROOT_KEYS)
def test_each_key_is_the_documented_fold(rng):
    fold_in = jax.random.fold_in
    np.testing.assert_array_equal(key_data(init_key(rng)), key_data(fold_in(rng, 2)))
    for i in (0, 1, 2, 7, 937, 10**6):
        expected = fold_in(fold_in(rng, 0), i)
        np.testing.assert_array_equal(key_data(order_key(rng, i)), key_data(expected))
        expected = fold_in(fold_in(rng, 1), i)
        np.testing.assert_array_equal(key_data(dropout_key(rng, i)), key_data(expected))
        expected = [fold_in(fold_in(fold_in(rng, 3), i), place) for place in range(3)]
        expected = np.concatenate(list(map(key_data, expected)))
        np.testing.assert_array_equal(key_data(augment_keys(rng, i, 3)), expected)


@pytest.mark.parametrize("rng", ROOT_KEYS)
def test_no_key_serves_twice(rng):
    """Neither two purposes nor two positions share a key, and none is the root key."""
    of_epochs = jax.vmap(lambda epoch: order_key(rng, epoch))(POSITIONS)
    of_steps = jax.vmap(lambda step: dropout_key(rng, step))(POSITIONS)
    keys = np.concatenate([key_data(x) for x in (rng, init_key(rng), of_epochs, of_steps)])
    assert len(np.unique(keys, axis=0)) == len(keys) == 2 + 2 * len(POSITIONS)


def test_no_other_module_folds_a_key():
    package = Path(jaxconv.__file__).parent
    folding = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if "fold_in" in (getattr(node, field, None) for field in ("attr", "id", "name"))
    }
    assert folding == {"training/keys.py"}


def test_an_epoch_is_a_full_permutation_of_its_own():
    key = jax.random.key(3)
    orders = [np.asarray(epoch_permutation(key, epoch, 1000)) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[2], epoch_permutation(jax.random.key(3), 2, 1000))
    assert not np.array_equal(orders[0], epoch_permutation(jax.random.key(4), 0, 1000))
    expected = jax.random.permutation(order_key(key, 2), 1000)
    np.testing.assert_array_equal(orders[2], expected)


@pytest.mark.usefixtures("x64")
def test_orders_are_int32_in_64_bits_too():
    assert epoch_permutation(jax.random.key(0), 0, 5).dtype == np.int32
