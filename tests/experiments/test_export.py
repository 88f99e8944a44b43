import importlib.util

import jax
import keras
import numpy as np
import pytest

import jaxconv
from experiments import export
from jaxconv.runs.trained import Trained

MODEL, SHAPE = jaxconv.create_model("dense", hidden=()), (28, 28, 1)
NEW = jax.__version_info__ >= (0, 12)  # than jax2onnx


@pytest.fixture
def run(tmp_path):
    """The file of a run of two seeds."""
    net = jaxconv.classifier(MODEL, jaxconv.adam())
    states = tuple(net.init(jax.random.key(seed), SHAPE) for seed in (0, 1))
    path = tmp_path / "model.safetensors"
    Trained(MODEL, states, SHAPE, seeds=(0, 1)).save(path)
    return path


def keras_net():
    return keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(10)])


@pytest.mark.parametrize(
    "form", ["stablehlo", "keras", pytest.param("onnx", marks=pytest.mark.slow)]
)
def test_the_printed_lines_read_the_file_and_give_the_members_probabilities(
    form, run, mnist, capsys
):
    if form == "onnx" and (not importlib.util.find_spec("jax2onnx") or NEW):
        pytest.skip("needs jax2onnx, and a JAX that it knows")
    path = export.main(str(run), form, member=1)
    assert path == run.with_name(export.NAMES[form])
    head, lines = capsys.readouterr().out.split("\n\n")
    size = f"{path.stat().st_size:,} bytes; net 1 of 2, images [N, 28, 28, 1] of uint8"
    assert head == f"Export: {path} ({size}). Read it with:"
    assert len(lines.splitlines()) == 3
    names = {"images": mnist.test.image[:7], "model": keras_net(), "keras": keras}
    exec(lines, names)
    expected = jaxconv.load_run(run).predict(names["images"], members=[1])
    np.testing.assert_allclose(names["probabilities"], expected, atol=1e-5)


def test_bad_requests_write_nothing(run, tmp_path):
    with pytest.raises(ValueError, match=r"^The run has the nets 0 to 1, not 2"):
        export.main(str(run), "keras", member=2)
    with pytest.raises(FileExistsError, match="is there already"):
        export.main(str(run), "stablehlo", str(run))
    with pytest.raises(FileNotFoundError, match=r"There is no .*: name the folder of a run"):
        export.main(str(tmp_path / "none"), "stablehlo")
    assert [*tmp_path.iterdir()] == [run]
