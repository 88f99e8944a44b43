"""Trained nets: kept, loaded, asked."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from safetensors.numpy import load_file

import jaxconv
from jaxconv import load_run
from jaxconv.runs import Trained
from jaxconv.runs.tensors import read_header, read_tensors, write_tensors
from tests.support.oracles import bits

SHAPE = (28, 28, 1)
SMALL = jaxconv.create_model("dense", hidden=(16,))


class WithStatistics(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1))
        return nn.Dense(3, param_dtype=jnp.bfloat16)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.logits = nnx.Linear(784, 10, rngs=rngs)

    def __call__(self, x):
        return self.logits(x.reshape(len(x), -1))


NETS = [(WithStatistics(), "WithStatistics"), (Nnx, "ToLinen")]


def made(model, *seeds, shape=SHAPE, **more) -> Trained:
    net = jaxconv.classifier(model, optax.identity())
    states = tuple(net.init(jax.random.key(seed), shape) for seed in seeds)
    return Trained(model, states, shape, seeds=seeds, **more)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dense", {}),
        ("lab6", {"padding": ((1, 0), "same"), "pool": "avg", "form": "xla"}),
        ("strided", {"padding": 2, "activation": "gelu", "kernel_size": (3, 5)}),
        ("dropout", {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}),
    ],
)
def test_a_net_is_rebuilt_and_predicts_the_same_bits(name, settings, digits, path):
    if name == "lab6":
        settings = settings | {"padding": "same"}
    trained = made(jaxconv.create_model(name, **settings), 3, class_names=tuple("abcdefghij"))
    trained.save(path)
    found = load_run(path)
    assert found.model == trained.model
    assert bits(found.state._replace(opt_state=())) == bits(trained.state._replace(opt_state=()))
    image = digits.test.image[:5]
    np.testing.assert_array_equal(found.predict(image), trained.predict(image))
    expected = jaxconv.predict(trained.net, trained.state, image)
    np.testing.assert_array_equal(found.predict(image), np.asarray(expected, np.float32))
    assert (found.class_names, found.num_classes, found.seeds) == (tuple("abcdefghij"), 10, (3,))
    assert (found.result, found.history, found.versions) == (None, (), trained.versions)


@pytest.mark.parametrize(("model", "name"), NETS)
def test_a_module_of_ones_own_is_passed(model, name, path):
    model = jaxconv.models.as_linen(model)
    trained = made(model, 0, 1, shape=(28, 28, 1), input_dtype="float32")
    trained.save(path)
    with pytest.raises(ValueError, match=rf"the module '{name}', which is not of .* pass it"):
        load_run(path)
    image = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    found = load_run(path, model)
    np.testing.assert_array_equal(found.predict(image), trained.predict(image))
    with pytest.raises(ValueError, match=r"does not fit ConvNet: .* missing"):
        load_run(path, SMALL)
    with pytest.raises(ValueError, match="trained on float32 images as they are, and these are"):
        found.predict(image.astype(np.uint8))


def test_a_function_as_activation_has_to_be_passed_too(path):
    made(model := jaxconv.create_model("strided", activation=jnp.sin), 0).save(path)
    with pytest.raises(ValueError, match="has a function as a setting: pass it"):
        load_run(path)
    assert load_run(path, model).model == model


def test_several_seeds_are_averaged_and_picked(digits, path):
    made(SMALL, 3, 7, 11, test_accuracy=(0.5, None, 0.25)).save(path)
    found, image = load_run(path), digits.test.image[:4]
    own = [np.asarray(jaxconv.predict(found.net, state, image)) for state in found.states]
    np.testing.assert_allclose(found.predict(image), (own[0] + own[2]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(found.predict(image, members=[1]), own[1])
    np.testing.assert_allclose(found.predict(image, members=range(3)), np.mean(own, 0), rtol=1e-6)
    assert load_file(path)["params/dense1/bias"].shape == (3, 16)
    assert (found.test_accuracy, found.kept) == ((0.5, None, 0.25), [0, 2])
    for members in ([], [3], [-1]):
        with pytest.raises(ValueError, match=r"members must be places in the 3 states, not \["):
            found.predict(image, members=members)


@pytest.mark.usefixtures("untyped")
def test_images_of_another_shape_are_refused():
    trained = made(SMALL, 0)
    for shape in ((28, 28), (28, 28, 1), (2, 1, 28, 28), (2, 784)):
        with pytest.raises(ValueError, match=r"images \[N, 28, 28, 1\], not \(.*: add or"):
            trained.predict(np.zeros(shape, np.uint8))


def rewritten(path, **fields):
    content = read_header(path)[1] | fields
    write_tensors(path, read_tensors(path), content)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "is of format 2, where this version of jaxconv reads 1"),
        ({"module": "Evil"}, "Unknown module 'Evil'"),
        ({"settings": {"filters": []}}, "no net that can be rebuilt: 'dtype'"),
        ({"settings": []}, "no net that can be rebuilt"),
        ({"settings": 3}, "no net that can be rebuilt"),
        (
            {"hidden": [10**9]},
            r"dense1/bias is \(16,\) float32, and should be \(1000000000,\)",
        ),
        ({"hidden": [10**30]}, r"should be \(10{30},\)"),
        ({"hidden": [[16]]}, "takes no images of|no net that can be rebuilt"),
        ({"hidden": [1] * 1000}, "it has more layers than arrays"),
        ({"hidden": [-1]}, "takes no images of"),
        ({"filters": [8], "kernel_size": 10**9}, "takes no images of"),
        ({"filters": [8], "activation": "evil"}, "takes no images of"),
        ({"dtype": "object"}, "Unknown dtype 'object'"),
        ({"evil": 3}, "Unknown setting of ConvNet 'evil'"),
        ({"input_shape": [28, 28]}, "cannot be read"),
        ({"input_shape": [10**9, 10**9, 1]}, r"params/dense1/kernel is \(784, 16\)"),
        ({"input_shape": "abc"}, "cannot be read"),
        ({"input_dtype": "object"}, "cannot be read: .*Unknown input_dtype 'object'"),
        ({"class_names": ["a"]}, "has 1 names for 10 classes"),
        ({"class_names": 3}, "cannot be read"),
        ({"seeds": [0, 1]}, "it has 1 states for 2 seeds"),
        ({"seeds": [2**70]}, "cannot be read"),
        ({"seeds": [0, 1], "steps": [1, 1]}, r"should be \(2, 16\) float32"),
        ({"steps": []}, "it has 0 states for 1 seeds"),
        ({"steps": [1e999]}, "cannot be read"),
        ({"test_accuracy": ["much"]}, "cannot be read"),
        ({"versions": 3}, "cannot be read"),
    ],
    ids=str,
)
def test_a_file_that_lies_gives_a_message(fields, message, path):
    made(SMALL, 0).save(path)
    settings = read_header(path)[1]["settings"]
    if "settings" not in fields and fields.keys() <= settings.keys() | {"evil"}:
        fields = {"settings": settings | fields}
    rewritten(path, **fields)
    with pytest.raises(ValueError, match=message):
        load_run(path)


def test_a_damaged_file_and_a_folder_without_one_give_a_message(path, tmp_path):
    made(SMALL, 0).save(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: its bytes are not those"):
        load_run(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*/model\.safetensors: name the folder of"):
        load_run(tmp_path)


def test_the_core_and_safetensors_alone_load_a_run(path):
    """Nothing else that `jaxconv[run]` installs is imported."""
    made(SMALL, 0).save(path)
    program = f"""
import sys, numpy, jaxconv
print(jaxconv.load_run({str(path)!r}).predict(numpy.zeros((2, 28, 28, 1), "uint8")).shape)
print({{"tyro", "jinja2", "matplotlib", "PIL", "platformdirs"}} & sys.modules.keys())
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout == "(2, 10)\nset()\n"


def test_without_safetensors_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ModuleNotFoundError, match="pip install safetensors"):
        load_run("x")


@pytest.mark.usefixtures("few_digits", "no_pictures")
def test_every_run_keeps_its_nets(digits, tmp_path, capsys):
    """Of all seeds in all groups, as `evaluate` finds them in `result.json`."""
    from experiments import dense

    folder = str(tmp_path / "a")
    config = dense.CONFIG.replace(epochs=2, seeds="3", group=2, output_dir=folder, quiet=True)
    result = dense.main(config)
    found = load_run(folder)
    rows = [jaxconv.evaluate(found.net, state, digits.test) for state in found.states]
    assert [row["accuracy"] for row in rows] == result["test_accuracy_by_seed"]
    np.testing.assert_allclose(
        [row["loss"] for row in rows], result["test_loss_by_seed"], rtol=1e-6
    )
    assert (found.experiment, found.dataset, found.seeds) == ("dense", "digits", (0, 1, 2))
    assert found.result == json.loads(json.dumps(result))
    assert [row["epoch"] for row in found.history] == [1, 1, 2, 2, 1, 2]
    found.summary()
    assert "407,050" in capsys.readouterr().out
    one = dense.main(config.replace(seeds=None, group=None, output_dir=str(tmp_path / "b")))
    assert one["test_loss"] == result["test_loss_by_seed"][0]
    with pytest.raises(ValueError, match="holds the nets of seeds 0 to 2, and a run starts"):
        dense.main(config.replace(output_dir=str(tmp_path / "c"), init_from=folder))
    more = {"learning_rate": 1e-12, "init_from": str(tmp_path / "b"), "epochs": 1}
    again = dense.main(
        config.replace(seeds="5,", group=None, output_dir=str(tmp_path / "c"), **more)
    )
    assert again["test_accuracy"] == one["test_accuracy"]
