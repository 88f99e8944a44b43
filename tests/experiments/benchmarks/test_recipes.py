import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from experiments.benchmarks.keras_nets import Notebook
from experiments.benchmarks.recipes import EXPERIMENTS, NOTEBOOKS, from_recipe


def test_the_notebooks_are_the_experiments_settings():
    """As the notebooks print them, by Keras' names."""
    sparse = "sparse_categorical_crossentropy"
    assert {
        "lab6": Notebook("rmsprop", sparse, 64, 5),
        "intro": Notebook("rmsprop", sparse, 64, 5),
        "strided": Notebook("adam", sparse, 32, 10, validate_on_test=True),
        "dropout": Notebook("adam", "categorical_crossentropy", 128, 15, validation_split=0.1),
        "dense": Notebook("rmsprop", sparse, 128, 5),
    } == NOTEBOOKS
    assert [net for net, notebook in NOTEBOOKS.items() if notebook.one_hot] == ["dropout"]
    assert set(EXPERIMENTS) == set(jaxconv.models.ARCHITECTURES)


@pytest.mark.parametrize("net", NOTEBOOKS)
def test_a_recipe_has_the_notebooks_net_optimizer_and_loss(net):
    model, tx, loss = from_recipe(net, dtype="bfloat16")
    assert model == jaxconv.create_model(net, dtype="bfloat16")
    expected = getattr(jaxconv, NOTEBOOKS[net].optimizer)()  # Keras' default learning rate
    params = {"w": jnp.ones(3)}
    updates, _ = tx.update(params, tx.init(params), params)
    own, _ = expected.update(params, expected.init(params), params)
    np.testing.assert_array_equal(updates["w"], own["w"])
    assert loss(jnp.zeros((2, 10)), jnp.array([3, 4])).shape == (2,)
