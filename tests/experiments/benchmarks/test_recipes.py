import jax
import pytest

import jaxconv
from experiments.benchmarks.keras_nets import Notebook
from experiments.benchmarks.recipes import EXPERIMENTS, NOTEBOOKS, net_of


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
def test_a_net_has_the_notebooks_layers_optimizer_and_loss(net):
    """Its step is the program of what the notebook names, with Keras' default learning rate."""
    notebook, model = NOTEBOOKS[net], jaxconv.create_model(net, dtype="bfloat16")
    loss = jaxconv.sparse_categorical_crossentropy
    if notebook.one_hot:
        loss = jaxconv.one_hot_labels(jaxconv.categorical_crossentropy)
    expected = jaxconv.classifier(model, getattr(jaxconv, notebook.optimizer)(), loss=loss)
    image = jax.ShapeDtypeStruct((2, 28, 28, 1), "uint8")
    batch = {"image": image, "label": jax.ShapeDtypeStruct((2,), "int32")}
    state = jax.eval_shape(lambda key: expected.init(key, image.shape[1:]), jax.random.key(0))
    programs = [
        jax.jit(own.train_step).lower(state, batch).as_text()
        for own in (net_of(net, dtype="bfloat16"), expected)
    ]
    assert programs[0] == programs[1]
