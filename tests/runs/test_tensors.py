"""What a safetensors file of jaxconv keeps; `test_checkpoint_damage` has what damage does."""

import hashlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from jaxconv.runs import files
from jaxconv.runs.tensors import read_header, read_tensors, write_tensors

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "b/c": np.zeros((0, 3), np.float64),
    "d": np.array(7, np.int32),
    "e": np.array([True, False]),
    "f": np.array([-0.0, np.nan], np.float16),
}


def test_arrays_and_the_object_come_back_with_every_bit(tmp_path):
    path, content = tmp_path / "x.safetensors", {"a": [1, None, "ü"], "b": float("inf")}
    arrays = ARRAYS | {"g": np.asarray(jnp.array([1 / 3], jnp.bfloat16))}
    write_tensors(path, arrays, content)
    shapes, found = read_header(path)
    assert found == content
    back = read_tensors(path)
    assert back.keys() == shapes.keys() == arrays.keys()
    for name, x in arrays.items():
        assert (back[name].dtype, back[name].shape) == (x.dtype, x.shape)
        assert back[name].tobytes() == x.tobytes()
        assert (shapes[name].dtype, tuple(shapes[name].shape)) == (x.dtype, x.shape)
    assert [x.name for x in tmp_path.iterdir()] == ["x.safetensors"]


def test_other_programs_read_the_arrays_and_can_check_the_sum(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, ARRAYS, {"seed": 3})
    for name, x in load_file(path).items():
        np.testing.assert_array_equal(x, ARRAYS[name])
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["jaxconv"]) == {"seed": 3}
    content = path.read_bytes()
    blank = content.replace(metadata["sha256"].encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == metadata["sha256"]


def test_a_file_of_others_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors is damaged: its bytes are not"):
        read_header(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "y.safetensors")
    with pytest.raises(ValueError, match="is not a file"):
        read_header(tmp_path)


def test_what_cannot_be_kept_is_refused_and_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_tensors(path, ARRAYS, {})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="c has the dtype complex64, which"):
        write_tensors(path, {"c": np.zeros(3, np.complex64)}, {})
    with pytest.raises(ValueError, match=r"beside its arrays would have 16777225 bytes"):
        write_tensors(path, {}, {"x": "y" * 2**24})
    monkeypatch.setattr(files.os, "replace", lambda *_: exec("raise OSError(28, 'No space left')"))
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, {}, {})
    assert (path.read_bytes(), [x.name for x in tmp_path.iterdir()]) == (before, ["x.safetensors"])
