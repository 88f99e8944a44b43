"""Bad input, through the command line and the public functions: a short error, nothing written."""

import functools
import pickle
import re
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv.data.arrays import Dataset
from jaxconv.export import load_weights, save_weights
from jaxconv.models import ops
from jaxconv.runs import Checkpoints, experiment
from tests.support import EXPERIMENTS
from tests.support.command_line_runs import run_cli

HUGE = "1" + "0" * 30
SHAPE = (28, 28, 1)


def name_case(part):
    if isinstance(part, list):
        return " ".join(part)[:40] or "-"
    return part[:40] if isinstance(part, str) else "-"


COMMAND_LINES = [
    (["--epochs", "0"], "epochs must be a positive integer, not 0"),
    (["--epochs", "-3"], "epochs must be a positive integer, not -3"),
    (["--epochs", "1.5"], r"invalid literal for int\(\)|1\.5"),
    (["--epochs", "many"], "many"),
    (["--epochs", ""], "--epochs"),
    (["--epochs"], "--epochs"),
    (["--epoch", "3"], "--epochs"),
    (["lab6"], "lab6"),
    (["--batch-size", "0"], "batch_size must be a positive integer, not 0"),
    (["--batch-size", "-5"], "batch_size must be a positive integer, not -5"),
    (["--batch-size", "2.5"], "2.5"),
    (["--learning-rate", "0"], "learning_rate must be positive and finite in float32, not 0.0"),
    (["--learning-rate", "-1"], "learning_rate must be positive and finite in float32, not -1.0"),
    (["--learning-rate", "nan"], "learning_rate must be positive and finite in float32, not nan"),
    (["--learning-rate", "inf"], "learning_rate must be positive and finite in float32, not inf"),
    (["--learning-rate", "1e300"], "positive and finite in float32, not 1e"),
    (["--learning-rate", "1e-300"], "positive and finite in float32, not 1e-300"),
    (["--learning-rate", "fast"], "fast"),
    (["--seed", "-1"], r"seed must be in \[0, 2\*\*32\), not -1"),
    (["--seed", HUGE], rf"seed must be in \[0, 2\*\*32\), not {HUGE}"),
    (["--seeds", "0"], "seeds must be 1 to 10000, not '0'"),
    (["--seeds", HUGE], "seeds must be 1 to 10000, not '1000"),
    (["--seeds", ""], "a number of seeds such as 10, or a list such as 3,7,11; not ''"),
    (["--seeds", "many"], "a number of seeds such as 10, or a list such as 3,7,11; not 'many'"),
    (["--seeds", "3,-7"], "a number of seeds such as 10, or a list such as 3,7,11; not '3,-7'"),
    (["--seeds", "3,3"], "has one twice"),
    (["--seeds", f"3,{HUGE}"], r"seeds must be in \[0, 2\*\*32\)"),
    (["--seeds", "3,4", "--seed", "2"], "exclude each other"),
    (["--seeds", "2", "--export-keras", "x.weights.h5"], "the weights of one seed"),
    (["--seeds", "2", "--group", "0"], "group must be a positive integer, not 0"),
    (["--strategy", "vmap"], "strategy and group are for several seeds: add --seeds"),
    (["--strategy", "pmap"], "vmap"),
    (["--dataset", "mnits"], r"Unknown data set 'mnits' \(did you mean 'mnist'\?\)"),
    (["--dataset", ""], "Unknown data set ''.*mnist, tfds:NAME"),
    (["--dataset", "tfds:mnist", "--data-dir", "nowhere"], "prepare_tfds.py mnist --data-dir"),
    (["--data-dir", "nowhere"], "data_dir='nowhere' is for"),
    (["--validation-split", "1"], r"must be in \[0, 1\), not 1.0"),
    (["--validation-split", "-0.1"], r"must be in \[0, 1\), not -0.1"),
    (["--validation-split", "nan"], r"must be in \[0, 1\), not nan"),
    (["--validation-split", "0.99999"], "leaves 0 of 60000 samples to train and 60000"),
    (["--padding", "full"], "padding is 'valid', 'same'.* not 'full'"),
    (["--padding", "-1"], "Layer 'conv1': padding is 'valid', 'same'.* not -1"),
    (
        ["--padding", "100000000"],
        "'conv1': padding 100000000 makes images of 200000028×200000028",
    ),
    (["--save-every", "0"], "save_every must be a positive integer, not 0"),
    (["--save-every", "-2"], "save_every must be a positive integer, not -2"),
    (["--save-every", "often"], "often"),
    (["--keep", "0"], "keep must be a positive integer, not 0"),
    (["--keep", "-1"], "keep must be a positive integer, not -1"),
    (["--resume"], "There is no run to resume: no folder runs/lab6-0-N"),
    (["--resume", "--overwrite", "--output-dir", "x"], "exclude each other: resume keeps"),
    (["--resume", "--output-dir", ""], "output_dir is empty"),
    (["--output-dir", ""], "output_dir is empty"),
    (["--output-dir", "/dev/null"], "folder /dev/null cannot be written .*: name another --output"),
    (
        ["--output-dir", "/dev/null/x"],
        "folder /dev/null/x cannot be written .*: name another --output",
    ),
    (["--output-dir", "/proc/none/x"], "folder /proc/none/x cannot be written .*: name another"),
    (["--overwrite"], "overwrite needs output_dir or export_keras"),
    (["--init-from", ""], "NAME.weights.h5 or NAME.keras, not in ''"),
    (["--init-from", "lost.keras"], "There is no file lost.keras"),
    (["--init-from", "x.npz"], "NAME.weights.h5 or NAME.keras, not in 'x.npz'"),
    (["--export-keras", ""], "from NAME.weights.h5, not from '': change the name"),
    (["--export-keras", "x.h5"], "from NAME.weights.h5, not from 'x.h5': change the name"),
    (["--export-keras", "/dev/null/x.weights.h5"], "/dev/null is not a folder"),
]


@pytest.mark.parametrize(("arguments", "message"), COMMAND_LINES, ids=name_case)
@pytest.mark.usefixtures("untyped")
def test_a_command_line_ends_with_a_message_and_code_2(
    arguments, message, monkeypatch, capsys, tmp_path, mnist
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxconv.data, "bundled_mnist", lambda: mnist)  # read once
    code, text = run_cli(monkeypatch, capsys, "lab6", *arguments)
    assert code == 2
    assert re.search(message, text.replace("\n", " ")), text
    assert len(text.splitlines()) < 20
    assert list(tmp_path.iterdir()) == []


FILES = {
    "text.weights.h5": b"text",
    "empty.weights.h5": b"",
    "cut.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "pickle.weights.h5": pickle.dumps([1]),
    "text.keras": b"text",
    "cut.keras": b"PK\x03\x04" + bytes(50),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.usefixtures("few_digits")
def test_a_damaged_file_ends_with_a_message_and_stays(name, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(FILES[name])
    code, text = run_cli(monkeypatch, capsys, "dense", "--init-from", name)
    assert code == 2
    assert f"error: {name} cannot be read" in text
    assert Path(name).read_bytes() == FILES[name]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--batch-size", HUGE, "--save-every", HUGE, "--keep", HUGE, "--epochs", "1"],
        ["--seeds", "2", "--group", HUGE, "--resume", "--output-dir", "new"],
        ["--seed", str(2**32 - 1), "--learning-rate", "1e-38", "--overwrite", "--output-dir", "x"],
        *(
            pytest.param(arguments, marks=pytest.mark.slow)
            for arguments in (
                ["--batch-size", "1"],
                ["--save-every", "1", "--keep", "1"],
                ["--seeds", "7,"],
                ["--padding", "SAME"],
                ["--validation-split", "0.99"],
                ["--dataset", "mnist"],
            )
        ),
    ],
    ids=name_case,
)
def test_odd_but_legal_settings_work(arguments, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    net = "strided" if "--padding" in arguments else "dense"
    code, text = run_cli(monkeypatch, capsys, net, "--epochs", "1", "--quiet", *arguments)
    assert code == 0, text
    assert "Test accuracy: " in text


def test_a_data_set_of_one_sample_trains(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    image, label = np.zeros((1, *SHAPE), np.uint8), np.array([3])
    one = Dataset.from_arrays(image, label, image, label, num_classes=10, name="one")
    monkeypatch.setattr(experiment, "load_dataset", lambda *_, **__: one)
    for net in ("dense", "strided"):
        code, text = run_cli(monkeypatch, capsys, net, "--epochs", "2", "--quiet")
        assert code == 0, text


@pytest.mark.parametrize(
    ("net", "size", "layer"),
    [
        ("lab6", 9, "Layer 'pool2'"),
        ("lab6", 5, "Layer 'conv2'"),
        ("intro", 2, "Layer 'conv1'"),
        ("strided", 6, "Layer 'conv2'"),
        ("dropout", 4, "Layer 'conv2'"),
    ],
)
def test_images_too_small_end_with_the_layer(net, size, layer, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    image, label = np.zeros((4, size, size, 1), np.uint8), np.array([0, 1, 2, 3])
    small = Dataset.from_arrays(image, label, image, label, name="small")
    monkeypatch.setattr(experiment, "load_dataset", lambda *_, **__: small)
    code, text = run_cli(monkeypatch, capsys, net)
    assert code == 2
    assert layer in text
    assert "does not fit into" in text
    assert "use larger images, fewer layers or padding 'same'" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("compare", ["lab7", "lab6"], r"Unknown experiment 'lab7' \(did you mean 'lab6'\?\)"),
        ("sweep", ["--net", "strieded"], "strided"),
        ("prepare_tfds", ["--data-dir", ""], "data_dir|data-dir"),
    ],
)
def test_scripts_refuse_unknown_names(script, arguments, message, tmp_path):
    """Each in a process of its own, from an empty folder."""
    path = EXPERIMENTS / f"{script}.py"
    run = subprocess.run(
        [sys.executable, str(path), *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 2, run.stderr
    assert re.search(message, run.stdout + run.stderr)
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


IMAGE, LABEL = np.zeros((4, *SHAPE), np.uint8), np.array([0, 1, 2, 1])
FLOATS = np.full((4, *SHAPE), np.nan, np.float32)
MODEL = jaxconv.create_model("dense", hidden=(8,))
TX = jaxconv.adam()


@functools.cache
def parts():
    state = jaxconv.create_train_state(MODEL, TX, jax.random.key(0), SHAPE)
    return state, jaxconv.make_train_step(MODEL, TX), jaxconv.make_eval_step(MODEL)


def arrays(*changed, **options):
    given = [IMAGE, LABEL, IMAGE, LABEL]
    for place, value in changed:
        given[place] = value
    return lambda: Dataset.from_arrays(*given, **options)


def fit(**change):
    def call():
        state, train_step, _ = parts()
        options = {"train_step": train_step, "epochs": 1, "batch_size": 2, **change}
        return jaxconv.fit(state, {"image": IMAGE, "label": LABEL}, **options)

    return call


def stepped(batch):
    return lambda: parts()[1](parts()[0], batch)


def many(**change):
    def call():
        state, train_step, _ = parts()
        epoch = functools.partial(jaxconv.train_epoch, train_step=train_step, batch_size=2)
        given = {"keys": [jax.random.key(0)], "data": {"image": IMAGE, "label": LABEL}, "epochs": 1}
        return jaxconv.training.fit_seeds(lambda key: state, epoch, **(given | change))

    return call


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return nn.Dense(10)(nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1)))


def masked_statistics():
    state = jaxconv.create_train_state(Normed(), TX, jax.random.key(0), SHAPE)
    batch = {"image": IMAGE, "label": LABEL, "mask": np.ones(4)}
    return jaxconv.make_train_step(Normed(), TX)(state, batch)


def state_of(model="lab6", rng=0, shape=SHAPE, **more):
    rng = jax.random.key(rng) if isinstance(rng, int) else rng
    return lambda: jaxconv.create_train_state(jaxconv.create_model(model), TX, rng, shape, **more)


FUNCTIONS = [
    (arrays((0, IMAGE[..., 0])), r"train images must be .* not \(4, 28, 28\): add the channel"),
    (arrays((0, IMAGE[0, 0])), r"train images must be .* not \(28, 1\)"),
    (arrays((0, IMAGE.astype(np.int64))), "must be one of uint8, .* not int64"),
    (arrays((2, IMAGE.astype("O"))), "The test images must be one of uint8, .* not object"),
    (arrays((0, FLOATS), (2, FLOATS)), r"The train images hold nan at index \(0, 0, 0, 0\)"),
    (arrays((0, IMAGE[:3])), "train split has 3 images and 4 labels"),
    (arrays((0, IMAGE[:0]), (1, LABEL[:0])), "train split is empty"),
    (arrays((0, IMAGE[:, :0])), r"train split is empty: its images have shape \(4, 0, 28, 1\)"),
    (arrays((2, IMAGE[:, :27])), r"differ in shape: \(28, 28, 1\) and \(27, 28, 1\)"),
    (arrays((2, IMAGE / np.float32(255))), "differ in dtype: uint8 and float32"),
    (arrays((1, LABEL - 1)), r"train label at index 0 is -1, outside \[0, 3\)"),
    (arrays((1, LABEL + 0.5)), r"labels must be integers \[samples\], not float64"),
    (arrays((1, np.eye(3)[LABEL])), r"not float64 \(4, 3\): for one-hot labels pass label.argmax"),
    (arrays((3, LABEL + 7), num_classes=3), r"test label at index 0 is 7, outside \[0, 3\)"),
    (arrays(num_classes=0), "num_classes must be a positive integer, not 0"),
    (arrays(num_classes=2**31), "2147483648 classes are too many"),
    (lambda: arrays()().split_validation(1), r"must be in \[0, 1\), not 1"),
    (lambda: arrays()().split_validation(0.9), "leaves 0 of 4 samples to train"),
    (lambda: jaxconv.load_dataset("minst"), r"'minst' \(did you mean 'mnist'\?\)"),
    (lambda: jaxconv.create_model("lab7"), r"architecture 'lab7' \(did you mean 'lab6'\?\)"),
    (state_of(shape=(5, 5, 1)), "Layer 'conv2'.* does not fit into"),
    (state_of(shape=(28, 28)), r"\[batch, height, width, channels\], not \(1, 28, 28\)"),
    (state_of("dense", rng="0"), "rng must be a PRNG key such as .* not '0'"),
    (state_of("dense", params={}), r"params.* is missing, but the model's is"),
    (lambda: jaxconv.create_model("lab6", dtype="float64"), "jax_enable_x64"),
    (lambda: jaxconv.make_train_step(MODEL, TX, metrics={"loss": jaxconv.accuracy}), "rename"),
    (stepped({"image": IMAGE.astype(int), "label": LABEL}), "these are int(32|64): convert them"),
    (stepped({"image": IMAGE, "label": LABEL[:3]}), r"must be integers \(4,\) or .* not \(3,\)"),
    (stepped({"image": IMAGE, "label": LABEL, "mask": np.ones(3)}), r"value per sample, \(4,\)"),
    (masked_statistics, "masked batch would enter BatchNorm's statistics"),
    (fit(epochs=0), "epochs must be a positive integer, not 0"),
    (fit(batch_size=-1), "batch_size must be a positive integer, not -1"),
    (fit(batch_size=True), "batch_size must be a positive integer, not True"),
    (fit(chunks=2.5), "chunks must be a positive integer, not 2.5"),
    (fit(save_every=0), "save_every must be a positive integer, not 0"),
    (fit(validation={"image": IMAGE, "label": LABEL}), "validation needs an eval_step"),
    (lambda: jaxconv.evaluate(parts()[0], {"image": IMAGE, "label": LABEL}, eval_step=parts()[2],
                              batch_size=0), "batch_size must be a positive integer, not 0"),
    (lambda: jaxconv.evaluate(parts()[0], {"image": IMAGE, "label": LABEL, "mask": np.zeros(4)},
                              eval_step=parts()[2]), "No sample was counted"),
    (many(keys=[]), "There is no key"),
    (many(epochs=-1), "epochs must be a positive integer, not -1"),
    (many(group=0), "group must be a positive integer, not 0"),
    (many(strategy="pmap"), r"Unknown strategy 'pmap' \(did you mean 'map'\?\)"),
    (many(save=print), "pass keep_states=False"),
    (lambda: Checkpoints("x", every=0), "every must be a positive integer, not 0"),
    (lambda: Checkpoints("x", every="epochs"), "every must be .* not 'epochs'"),
    (lambda: Checkpoints("x", keep=0), "keep must be a positive integer, not 0"),
    (lambda: Checkpoints("x", settings={"rate": float("nan")}), "rate|JSON"),
    (lambda: load_weights("lost.keras", MODEL, SHAPE), "There is no file lost.keras"),
    (lambda: load_weights("x.pt", MODEL, SHAPE), "not in 'x.pt'"),
    (lambda: save_weights("x.h5", parts()[0].params, MODEL, SHAPE), "'x.h5'"),
    (lambda: jaxconv.summary(jaxconv.create_model("lab6"), (4, 4, 1)), "does not fit into"),
    (lambda: ops.conv(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 1, 1))), "2 channels and the"),
    (lambda: ops.conv(jnp.zeros((4, 4)), jnp.zeros((3, 3, 1, 1))), r"channels\], not \(4, 4\)"),
    (lambda: ops.max_pool(jnp.zeros((1, 4, 4, 1)), 5), "does not fit into 4×4"),
    (lambda: ops.max_pool(jnp.zeros((1, 4, 4, 1)), 0), "0"),
    (lambda: ops.conv(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1)), strides=0), "strides"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"), FUNCTIONS, ids=lambda x: x if isinstance(x, str) else ""
)
@pytest.mark.usefixtures("untyped")
def test_a_public_function_names_the_mistake(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError, OSError)) as error:
        call()
    assert re.search(message, str(error.value).replace("\n", " ")), error.value
    assert len(str(error.value)) < 400
    assert list(tmp_path.iterdir()) == []
