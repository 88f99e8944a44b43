"""Checkpoints that are damaged or hostile."""

import json
import os
import pickle
import random
import shutil
from pathlib import Path

import pytest

from jaxconv.runs import _orbax, checkpoint
from jaxconv.runs._checksums import LATER, write_sums
from tests.support.checkpoints import SETTINGS, restored
from tests.support.oracles import bits


def files_of(folder: Path) -> list[Path]:
    """The files of a checkpoint, without Orbax' notes, which nothing reads."""
    notes = [folder / name for name in LATER]
    return sorted(path for path in folder.rglob("*") if path.is_file() and path not in notes)


def damaged(folder, state, kept, what):
    """Expects one warning and the previous good checkpoint; then undoes the renaming."""
    (found, resume_point), warnings = restored(folder, state)
    assert (resume_point.step, bits(found)) == (5, kept[5]), what
    assert len(warnings) == 1, what
    assert "10 is damaged and not used" in warnings[0], what
    assert (folder / "damaged-10").is_dir()
    (folder / "damaged-10").rename(folder / "10")


def test_every_changed_byte_is_detected(saved, state):
    folder, kept = saved
    chance = random.Random(0)
    for file in files_of(folder / "10"):
        content = file.read_bytes()
        sampled = {0, len(content) - 1, *chance.choices(range(len(content)), k=4)}
        for place in sampled:
            flip = 1 << chance.randrange(8)
            changed = bytearray(content)
            changed[place] ^= flip
            file.write_bytes(changed)
            damaged(folder, state, kept, f"{file.name}, byte {place} ^ {flip}")
        file.write_bytes(content)
    assert restored(folder, state)[0][1].step == 10


def test_cut_lost_emptied_and_added_files_are_detected(saved, state):
    folder, kept = saved
    for file in files_of(folder / "10"):
        content = file.read_bytes()
        for changed in (content[:-1], content[: len(content) // 2], b"", content + b"\0", None):
            if changed is None:
                file.unlink()
            else:
                file.write_bytes(changed)
            damaged(folder, state, kept, f"{file.name}: {changed and len(changed)} bytes")
            file.write_bytes(content)
    (folder / "10" / "state" / "more").write_bytes(b"")
    damaged(folder, state, kept, "a file more")


def test_without_a_good_checkpoint_restoring_fails_and_each_gives_a_warning(saved, state):
    folder, _ = saved
    for step in ("5", "10"):
        (folder / step / "resume_point.json").unlink()
    warnings = []
    saves = checkpoint.Checkpoints(folder, settings=SETTINGS, warn=warnings.append)
    with pytest.raises(FileNotFoundError, match=r"no good checkpoint in .*/saves: name the folder"):
        saves.restore(state)
    assert len(warnings) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["damaged-10", "damaged-5"]


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


# When Orbax gives up, its pending reads print what they miss.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_hostile_checkpoint_executes_nothing(saved, state, monkeypatch, tmp_path):
    """A pickle in the place of each file in turn, under right checksums."""
    monkeypatch.chdir(tmp_path)
    folder, _ = saved
    shutil.rmtree(folder / "5")
    evil = pickle.dumps(Evil())
    for file in files_of(folder / "10"):
        if file.name in ("SHA256SUMS", "commit_success.txt"):
            continue
        content = file.read_bytes()
        file.write_bytes(evil)
        write_sums(folder / "10")
        if file.name == "resume_point.json":
            with pytest.raises(FileNotFoundError, match="no good checkpoint"):
                restored(folder, state)
            (folder / "damaged-10").rename(folder / "10")
        else:
            with pytest.raises(ValueError, match="cannot be read"):
                restored(folder, state)
        file.write_bytes(content)
    write_sums(folder / "10")
    restored(folder, state)
    assert not (tmp_path / "executed").exists()


# When Orbax gives up, its pending reads print what they miss.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("file", ["_CHECKPOINT_METADATA", "state/_METADATA", ".zarray"])
def test_no_class_and_no_path_that_a_checkpoint_names_is_used(file, saved, state, canary, tmp_path):
    folder, kept = saved
    shutil.copytree(folder / "5" / "state" / "step", tmp_path / "elsewhere")
    path = folder / "10" / file
    more = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{tmp_path}/elsewhere/"}}
    if file == ".zarray":
        path = folder / "10" / "state" / "step" / file
    content = json.loads(path.read_text())
    if file == "_CHECKPOINT_METADATA":
        content["item_handlers"] = {"state": canary, "more": canary}
    elif file == "state/_METADATA":
        for leaf in content["tree_metadata"].values():
            leaf["value_metadata"] |= {"value_type": canary, "ts_spec": more, **more}
        content |= {"custom_metadata": {"class": canary}, "pytree_class": canary}
    path.write_text(json.dumps(content | more))
    write_sums(folder / "10")
    assert bits(restored(folder, state)[0][0]) == kept[10]


def test_no_size_is_believed_before_it_is_checked(saved, state):
    """Arrays declared huge, packed, chunked or elsewhere, under right checksums."""
    folder, _ = saved
    path = folder / "10" / "state" / "params.dense1.kernel" / ".zarray"
    original = path.read_text()
    for change, message in (
        ({"shape": [1 << 40, 1 << 20], "chunks": [1 << 40, 1 << 20]}, r"1099511627776"),
        ({"chunks": [1 << 40, 1 << 20]}, "is not written as plain numbers"),
        ({"compressor": {"id": "zstd", "level": 1}}, "is not written as plain numbers"),
        ({"filters": [{"id": "delta"}]}, "is not written as plain numbers"),
        ({"dtype": "<f8"}, "float64, but the state's is"),
    ):
        path.write_text(json.dumps({**json.loads(original), **change}))
        write_sums(folder / "10")
        with pytest.raises(ValueError, match=message):
            restored(folder, state)
    path.write_text(original)
    (folder / "10" / "state" / "manifest.ocdbt").write_bytes(b"")
    write_sums(folder / "10")
    with pytest.raises(ValueError, match=r"it has manifest\.ocdbt, which no save writes"):
        restored(folder, state)
    (folder / "10" / "state" / "manifest.ocdbt").unlink()
    data = path.with_name("0.0")
    data.unlink()
    data.symlink_to("/dev/zero")
    found, warnings = restored(folder, state)
    assert found[1].step == 5
    assert "0.0 is not a plain file" in warnings[0]


ROW = {"epoch": 1, "loss": 0.5, "seconds": 1.0}
PLAIN = {"dtype": "float32", "shape": [1], "base64": "AAAAAA=="}


@pytest.mark.parametrize(
    "change",
    [
        "[" * 100_000,
        "{}",
        "null",
        "\x00",
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
    path = folder / "10" / "resume_point.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(path.read_text()) | change)
    path.write_text(change)
    write_sums(folder / "10")
    damaged(folder, state, kept, change)


def test_the_format_of_another_version_is_refused_not_damaged(saved, state):
    path = saved[0] / "10" / "resume_point.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
    write_sums(saved[0] / "10")
    with pytest.raises(ValueError, match="10 is a checkpoint of format 3, where"):
        restored(saved[0], state)
    assert (saved[0] / "10").is_dir()


def test_a_file_made_to_fill_the_memory_is_not_read(saved, state):
    """Sparse files: a terabyte of nothing."""
    folder, kept = saved
    for name in ("SHA256SUMS", "resume_point.json", "state/_METADATA", "state/step/.zarray"):
        path = folder / "10" / name
        content = path.read_bytes()
        if name == "SHA256SUMS":
            os.truncate(path, 1 << 40)
            damaged(folder, state, kept, name)
        else:
            os.truncate(path, _orbax.MAX_BYTES + 2**20)
            write_sums(folder / "10")
            if name == "resume_point.json":
                damaged(folder, state, kept, name)
            else:
                with pytest.raises(ValueError, match=r"it has 68\d+ bytes, more than the 67"):
                    restored(folder, state)
        path.write_bytes(content)
        write_sums(folder / "10")
    assert restored(folder, state)[0][1].step == 10


# When Orbax gives up, its pending reads print what they miss.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_only_arrays_that_were_checked_are_read(saved, state):
    """Orbax would follow _METADATA to another format, beside the files that were checked."""
    folder, _ = saved
    path = folder / "10" / "state"
    metadata = json.loads((path / "_METADATA").read_text())
    (path / "_METADATA").write_text(json.dumps({**metadata, "use_zarr3": True}))
    huge = {"zarr_format": 3, "node_type": "array", "shape": [1 << 40], "data_type": "float32"}
    for name in ("params.dense1.kernel/zarr.json", "more/zarr.json"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(json.dumps(huge))
        write_sums(folder / "10")
        with pytest.raises(ValueError, match=r"not written as plain|more/zarr\.json, which no"):
            restored(folder, state)
        (path / name).unlink()
    (path / "more").rmdir()
    write_sums(folder / "10")
    with pytest.raises(ValueError, match="cannot be read"):
        restored(folder, state)


def test_an_unreadable_checkpoint_gives_a_warning_and_is_put_aside(saved, state, monkeypatch):
    folder, kept = saved
    check = checkpoint.check_sums

    def failing(path):
        if path.name == "10":
            raise OSError(5, "Input/output error")
        check(path)

    monkeypatch.setattr(checkpoint, "check_sums", failing)
    (found, _), warnings = restored(folder, state)
    assert bits(found) == kept[5]
    assert "10 is damaged and not used: [Errno 5]" in warnings[0]
    assert sorted(path.name for path in folder.iterdir()) == ["5", "damaged-10"]


def test_a_damaged_checkpoint_that_cannot_be_renamed_does_not_matter(saved, state, monkeypatch):
    folder, kept = saved
    (folder / "10" / "SHA256SUMS").unlink()

    def failing(path, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", failing)
    (found, _), warnings = restored(folder, state)
    assert bits(found) == kept[5]
    assert "10 is damaged and not used: there is no SHA256SUMS" in warnings[0]
    assert (folder / "10").is_dir()
