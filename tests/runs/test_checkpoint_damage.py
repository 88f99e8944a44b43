"""Checkpoints that are damaged or hostile."""

import json
import os
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxconv.runs import checkpoint, tensors
from tests.support.checkpoints import SETTINGS, restored
from tests.support.oracles import bits

NEWEST = "10.safetensors"


def damaged(folder, state, kept, what):
    """Expects one warning and the previous good checkpoint; then undoes the renaming."""
    (found, resume_point), warnings = restored(folder, state)
    assert (resume_point.step, bits(found)) == (5, kept[5]), what
    assert len(warnings) == 1, what
    assert NEWEST in warnings[0], what
    (folder / f"damaged-{NEWEST}").rename(folder / NEWEST)


def rewrite(path: Path, arrays=None, **fields) -> None:
    """Changes what a checkpoint says or holds, under a right sum."""
    content = tensors.read_header(path)[1] | fields
    tensors.write_tensors(path, tensors.read_tensors(path) if arrays is None else arrays, content)


def with_right_sum(path: Path, content: bytes) -> None:
    """Writes a file with the sum that jaxconv would give it."""
    at = content.index(b'"sha256":"') + 10
    blank = content[:at] + b"0" * 64 + content[at + 64 :]
    digest = tensors.hashlib.sha256(blank).hexdigest().encode()
    path.write_bytes(content[:at] + digest + content[at + 64 :])


def test_every_changed_byte_is_detected(saved, state):
    folder, kept = saved
    path = folder / NEWEST
    content, chance = path.read_bytes(), random.Random(0)
    start = 8 + int.from_bytes(content[:8], "little")
    places = [
        *range(12),
        *chance.choices(range(start), k=60),
        *chance.choices(range(start, len(content)), k=20),
    ]
    for place in [*places, len(content) - 1]:
        flip = 1 << chance.randrange(8)
        changed = bytearray(content)
        changed[place] ^= flip
        path.write_bytes(changed)
        damaged(folder, state, kept, f"byte {place} ^ {flip}")
    path.write_bytes(content)
    assert restored(folder, state)[0][1].step == 10


def test_a_cut_an_emptied_and_a_longer_file_is_detected(saved, state):
    folder, kept = saved
    path = folder / NEWEST
    content = path.read_bytes()
    for changed in (content[:-1], content[: len(content) // 2], content[:9], b"", content + b"\0"):
        path.write_bytes(changed)
        damaged(folder, state, kept, f"{len(changed)} bytes")


def test_without_a_good_checkpoint_restoring_fails_and_each_gives_a_warning(saved, state):
    folder, _ = saved
    for path in folder.iterdir():
        path.write_bytes(b"")
    warnings = []
    saves = checkpoint.Checkpoints(folder, settings=SETTINGS, warn=warnings.append)
    with pytest.raises(FileNotFoundError, match=r"no good checkpoint in .*/saves: name the folder"):
        saves.restore(state)
    assert len(warnings) == 2
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["damaged-10.safetensors", "damaged-5.safetensors"]


def test_a_wrong_folder_is_refused(saved, state):
    folder, _ = saved
    with pytest.raises(FileNotFoundError, match=r"no good checkpoint in .*: name the folder that"):
        restored(folder.parent, state)
    with pytest.raises(
        FileNotFoundError, match=r"There is no folder .*/none: name the folder that"
    ):
        restored(folder / "none", state)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_is_not_executed(saved, state, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder, kept = saved
    (folder / NEWEST).write_bytes(pickle.dumps(Evil()))
    damaged(folder, state, kept, "a pickle")
    assert not (tmp_path / "executed").exists()


def test_a_link_to_a_device_is_not_read(saved, state):
    folder, kept = saved
    (folder / NEWEST).unlink()
    (folder / NEWEST).symlink_to("/dev/zero")
    damaged(folder, state, kept, "a device")


def test_no_size_is_believed_before_it_is_checked(saved, state):
    """Arrays declared huge, or of another kind, under right sums."""
    folder, kept = saved
    path = folder / NEWEST
    original = path.read_bytes()
    for change, message in (
        (lambda x: x | {"shape": [1 << 40, 1 << 20]}, None),
        (lambda x: x | {"data_offsets": [0, 1 << 50]}, None),
        (lambda x: x | {"dtype": "F64"}, None),
        (lambda x: x | {"dtype": "I32"}, "int32, but the state's is"),
        (lambda x: x | {"shape": [1, *x["shape"]]}, r"\(1, 784, 16\) float32, but the state's is"),
    ):
        length = int.from_bytes(original[:8], "little")
        header = json.loads(original[8 : 8 + length])
        header["params/dense1/kernel"] = change(header["params/dense1/kernel"])
        text = json.dumps(header, separators=(",", ":")).encode()
        whole = len(text).to_bytes(8, "little") + text + original[8 + length :]
        with_right_sum(path, whole)
        if message is None:
            damaged(folder, state, kept, str(change))
        else:
            with pytest.raises(ValueError, match=message):
                restored(folder, state)


def test_a_file_made_to_fill_the_memory_is_not_read(saved, state):
    """Sparse files: a terabyte of nothing, as a header and as an array."""
    folder, kept = saved
    path = folder / NEWEST
    path.write_bytes((1 << 40).to_bytes(8, "little"))
    os.truncate(path, 1 << 40)
    damaged(folder, state, kept, "a header")
    shutil.copy(folder / "5.safetensors", path)
    rewrite(path, {"step": np.zeros((1 << 20,), np.int32)}, step=10)
    with pytest.raises(ValueError, match=r"opt_state.* is missing, but the state's is"):
        restored(folder, state)


ROW = {"epoch": 1, "loss": 0.5, "seconds": 1.0}
PLAIN = {"dtype": "float32", "shape": [1], "base64": "AAAAAA=="}


@pytest.mark.parametrize(
    "change",
    [
        {"sums": {"count": {**PLAIN, "dtype": "O"}}},
        {"sums": {"count": {**PLAIN, "dtype": "(1,f4"}}},
        {"sums": {"count": {**PLAIN, "shape": [1e9]}}},
        {"sums": {"count": {**PLAIN, "shape": [1 << 40]}}},
        {"sums": {"loss": PLAIN}},
        {"sums": []},
        {"members": [0, 1, 2, 3]},
        {"members": [0, 1 << 60]},
        {"members": [0, 0]},
        {"step": float("inf")},
        {"step": -10},
        {"step": 11},
        {"histories": []},
        {"histories": [["row"]]},
        {"histories": [[{"epoch": 1}]]},
        {"histories": [[{**ROW, "loss": "much"}]]},
        {"settings": 3},
    ],
    ids=lambda x: str(x)[:40],
)
def test_a_resume_point_that_no_save_wrote_is_damaged(change, saved, state):
    folder, kept = saved
    rewrite(folder / NEWEST, **change)
    damaged(folder, state, kept, change)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "null", "\x00"], ids=lambda x: x[:4])
def test_an_object_that_no_save_wrote_is_damaged(text, saved, state, monkeypatch):
    folder, kept = saved
    with monkeypatch.context() as patch:
        patch.setattr(tensors.json, "dumps", lambda content: text)
        tensors.write_tensors(folder / NEWEST, tensors.read_tensors(folder / NEWEST), {})
    damaged(folder, state, kept, text[:4])


def test_the_format_of_another_version_is_refused_not_damaged(saved, state):
    rewrite(saved[0] / NEWEST, format=4)
    with pytest.raises(ValueError, match=r"10\.safetensors is a checkpoint of format 4, where"):
        restored(saved[0], state)
    assert (saved[0] / NEWEST).exists()


def test_an_unreadable_checkpoint_gives_a_warning_and_is_put_aside(saved, state, monkeypatch):
    folder, kept = saved
    read = checkpoint.read_header

    def failing(path):
        if path.name == NEWEST:
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(checkpoint, "read_header", failing)
    (found, _), warnings = restored(folder, state)
    assert bits(found) == kept[5]
    assert f"{NEWEST} is not used: [Errno 5]" in warnings[0]
    assert sorted(x.name for x in folder.iterdir()) == ["5.safetensors", f"damaged-{NEWEST}"]


def test_a_damaged_checkpoint_that_cannot_be_renamed_does_not_matter(saved, state, monkeypatch):
    folder, kept = saved
    (folder / NEWEST).write_bytes(b"")

    def failing(path, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", failing)
    (found, _), warnings = restored(folder, state)
    assert bits(found) == kept[5]
    assert f"{NEWEST} is damaged" in warnings[0]
    assert (folder / NEWEST).exists()
