"""Files that are damaged, old, hostile, or of nets that do not carry over."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from experiments.benchmarks.keras_nets import SHAPE
from jaxconv.export.keras import load_weights
from tests.support.keras_layout import MODEL, write_weights

CHAIN = {"class_name": "Sequential", "config": {"layers": []}}


def write_archive(path, config, weights) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.write(weights, "model.weights.h5")


@pytest.fixture
def path(tmp_path):
    return write_weights(tmp_path / "small.weights.h5")


def test_a_damaged_file_is_an_error_or_harmless(path, tmp_path):
    """Every truncation is detected, wherever it falls, and no exception but ours escapes."""
    write_archive(tmp_path / "x.keras", CHAIN, path)
    rng = np.random.default_rng(0)
    for source in (path, tmp_path / "x.keras"):
        whole, damaged = source.read_bytes(), tmp_path / f"damaged{''.join(source.suffixes)}"
        for length in [0, 1, *rng.integers(2, len(whole), 6), len(whole) - 1]:
            damaged.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=r"damaged.*cannot be read \(.*truncated, damag"):
                load_weights(damaged, MODEL, SHAPE)
        refused = []
        for position in rng.integers(0, 4000, 30):
            flipped = bytearray(whole)
            flipped[position] ^= 0xFF
            damaged.write_bytes(flipped)
            try:
                load_weights(damaged, MODEL, SHAPE)
            except ValueError as error:
                refused.append(str(error))
        assert all(str(damaged) in message for message in refused)
        assert len(refused) > (25 if source.suffix == ".keras" else 2)


def test_other_kinds_of_files_are_refused_by_name(path, tmp_path):
    for name, content in {
        "x.weights.h5": b"no HDF5",
        "x.keras": b"no archive",
        "y.keras": None,
    }.items():
        if content is None:
            with zipfile.ZipFile(tmp_path / name, "w") as archive:
                archive.writestr("config.json", "{}")
        else:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            load_weights(tmp_path / name, MODEL, SHAPE)
    with pytest.raises(ValueError, match=r"NAME.weights.h5 or NAME.keras, not in 'x.npz'"):
        load_weights(tmp_path / "x.npz", MODEL, SHAPE)
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere.keras"):
        load_weights(tmp_path / "nowhere.keras", MODEL, SHAPE)


@pytest.mark.parametrize("kind", ["weights", "model", "link"])
def test_the_layout_of_keras_2_is_named(kind, tmp_path):
    with h5py.File(tmp_path / "old.weights.h5", "w") as file:
        if kind == "weights":
            file.attrs["layer_names"] = ["conv2d"]
        elif kind == "link":  # looked at, not followed
            file["model_weights"] = h5py.ExternalLink("nowhere.h5", "/")
        else:
            file["model_weights/conv2d/kernel"] = np.zeros(3)
    with pytest.raises(ValueError, match="has the layout of Keras 2"):
        load_weights(tmp_path / "old.weights.h5", MODEL, SHAPE)


def test_weights_outside_of_the_layers_are_refused(path):
    with h5py.File(path, "r+") as file:
        file["gain/vars/0"] = np.zeros((3, 3))
        file["optimizer/vars/0"] = np.zeros((3, 3))
    with pytest.raises(
        ValueError, match=r"no layer \(/gain in the file.*: has kernel \(3"
    ) as error:
        load_weights(path, MODEL, SHAPE)
    assert "optimizer" not in str(error.value)


def two_inputs(x, layers):
    other = layers.Input((28, 28, 1), name="other")
    return [x, other], layers.Concatenate(name="both")([x, other])


def two_heads(x, layers):
    return x, [layers.Flatten(name="a")(x), layers.Conv2D(4, 3, name="b")(x)]


def a_head_in_the_middle(x, layers):
    middle = layers.Conv2D(4, 3, name="middle")(x)
    return x, {"a": middle, "b": layers.Flatten(name="end")(middle)}


def branches(x, layers):
    return x, layers.Add()([layers.Conv2D(2, 3, name=name)(x) for name in "ba"])


def a_skip(x, layers):
    return x, layers.Add(name="sum")([layers.Conv2D(1, 3, padding="same")(x), x])


def a_shared_layer(x, layers):
    shared = layers.Conv2D(1, 3, name="shared")
    return x, shared(shared(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (two_inputs, r"inputs are \['x', 'other'\], its outputs \['both'\], .* \['both'\]\.$"),
        (two_heads, r"inputs are \['x'\], its outputs \['a', 'b'\], .* repeats \['x'\]\.$"),
        (a_head_in_the_middle, r"outputs \['middle', 'end'\], it branches at or repeats no layer"),
        (branches, r"it branches at or repeats \['x', 'add"),
        (a_skip, r"it branches at or repeats \['x', 'sum'\]"),
        (a_shared_layer, r"it branches at or repeats \['shared'\]"),
    ],
)
def test_a_keras_file_whose_net_is_no_chain_is_refused(build, message, tmp_path):
    import keras

    x = keras.Input(SHAPE, name="x")
    keras.Model(*build(x, keras.layers)).save(tmp_path / "x.keras")
    with pytest.raises(ValueError, match=rf"x\.keras holds a net that is no chain.*{message}"):
        load_weights(tmp_path / "x.keras", MODEL, SHAPE)


def test_a_keras_file_of_a_class_of_its_own_or_with_channels_first_is_refused(tmp_path):
    import keras
    from keras import layers

    class Mine(keras.Sequential):
        pass

    Mine([keras.Input(SHAPE), layers.Conv2D(4, 3)]).save(tmp_path / "x.keras")
    with pytest.raises(ValueError, match=r"x\.keras holds a net of the class 'Mine', whose own"):
        load_weights(tmp_path / "x.keras", MODEL, SHAPE)
    first = layers.Conv2D(4, 3, data_format="channels_first", name="mine")
    keras.Sequential([keras.Input((1, 28, 28)), first]).save(tmp_path / "y.keras")
    with pytest.raises(ValueError, match=r"y.keras: layer 'mine' has its channels first"):
        load_weights(tmp_path / "y.keras", MODEL, SHAPE)


def test_no_class_that_a_keras_file_names_is_imported(path, tmp_path, canary):
    module, _, name = canary.partition(".")
    kind = {"class_name": name, "module": module, "registered_name": canary}
    body = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None}}
    layers = [{**kind, "config": {}}, {"class_name": "Lambda", "config": {"function": body}}]
    net = {"class_name": "Sequential", "module": module, "config": {"layers": layers}}
    write_archive(tmp_path / "x.keras", net | {"compile_config": {"loss": kind}}, path)
    assert load_weights(tmp_path / "x.keras", MODEL, SHAPE).keys() == {"conv1", "conv2", "logits"}
    write_archive(tmp_path / "y.keras", {**kind, "config": {}}, path)
    with pytest.raises(ValueError, match=f"holds a net of the class {name!r}"):
        load_weights(tmp_path / "y.keras", MODEL, SHAPE)


@pytest.mark.parametrize("kind", ["soft", "external", "raw", "virtual"])
def test_a_file_that_points_elsewhere_is_not_followed(kind, path, tmp_path):
    elsewhere = write_weights(tmp_path / "elsewhere.weights.h5")
    (tmp_path / "raw").write_bytes(bytes(40))
    layout = h5py.VirtualLayout(shape=(10,), dtype=np.float32)
    layout[:] = h5py.VirtualSource(elsewhere, "layers/dense/vars/1", shape=(10,))
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/1"]
        group = file["layers/dense/vars"]
        if kind == "soft":
            file["secret"] = np.zeros(10, np.float32)
            group["1"] = h5py.SoftLink("/secret")
        elif kind == "external":
            group["1"] = h5py.ExternalLink(elsewhere.name, "layers/dense/vars/1")
        elif kind == "raw":
            group.create_dataset("1", (10,), np.float32, external=str(tmp_path / "raw"))
        else:
            group.create_virtual_dataset("1", layout)
    with pytest.raises(ValueError, match=r"'logits' .*, (no bias|bias .* kept in another file);"):
        load_weights(path, MODEL, SHAPE)


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(10**7))
    with pytest.raises(ValueError, match="unpacks to 10,000,002 bytes"):
        load_weights(tmp_path / "x.keras", MODEL, SHAPE)
