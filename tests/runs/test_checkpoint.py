import functools
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxconv
from jaxconv import create_train_state
from jaxconv.runs import _orbax, checkpoint
from jaxconv.runs._checksums import LATER, write_sums
from jaxconv.runs.checkpoint import Checkpoints
from jaxconv.training import ResumePoint
from jaxconv.training.fit import fit
from tests.support.oracles import bits

MODEL, TX = jaxconv.create_model("dense", hidden=(16,)), jaxconv.adam()
NET = jaxconv.classifier(MODEL, TX)
SETTINGS = {"seed": 0, "rate": 0.1}
HERE = ResumePoint(1, range(1), [[]])
UNFINISHED = "15.orbax-checkpoint-tmp"


@pytest.fixture
def state():
    return create_train_state(MODEL, TX, jax.random.key(0), (28, 28, 1))


@pytest.fixture
def saved(tmp_path, state, digits):
    """Two checkpoints, of epochs 1 and 2, and the states in them."""
    kept = {}
    with Checkpoints(tmp_path / "saves", settings=SETTINGS, every="epoch") as saves:

        def save(state, resume_point):
            saves(state, resume_point)
            kept[resume_point.step] = bits(state)

        fit(NET, state, digits.train, epochs=2, batch_size=64, save=save)
    return tmp_path / "saves", kept


def files_of(folder: Path) -> list[Path]:
    """The files of a checkpoint, without Orbax' notes, which nothing reads."""
    notes = [folder / name for name in LATER]
    return sorted(path for path in folder.rglob("*") if path.is_file() and path not in notes)


def restored(folder, template, settings=SETTINGS):
    warnings = []
    with Checkpoints(folder, settings=settings, warn=warnings.append) as saves:
        found = saves.restore(template)
    return found, warnings


def test_the_newest_comes_back_with_every_bit(saved, state):
    folder, kept = saved
    (found, resume_point), warnings = restored(folder, state)
    assert bits(found) == kept[10]
    assert jax.tree.structure(found) == jax.tree.structure(state)
    assert not warnings
    assert (resume_point.step, resume_point.members, resume_point.sums) == (10, range(1), {})
    assert [row["epoch"] for row in resume_point.histories[0]] == [1, 2]
    assert sorted(path.name for path in folder.iterdir()) == ["10", "5"]
    check = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=folder / "10", capture_output=True
    )
    assert check.returncode == 0


RBG = functools.partial(jax.random.key, impl="rbg")


class WithStatistics(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1))
        empty = self.param("empty", lambda _: jnp.zeros((0, 3)))
        return nn.Dense(10, param_dtype=jnp.bfloat16, name="..%2F..")(x) + empty.sum()


@pytest.mark.parametrize("make", [jax.random.key, RBG])
def test_any_state_comes_back(make, tmp_path):
    """Statistics, bfloat16, an empty array, an odd name, schedules, every kind of key."""
    rng, tx = (
        make(3),
        optax.chain(optax.clip(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 10))),
    )
    state = create_train_state(WithStatistics(), tx, rng, (4, 4, 1))
    state = state._replace(params=jax.tree.map(lambda x: x + 1 / 3, state.params))
    with Checkpoints(tmp_path) as saves:
        saves.save(state, HERE)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    (found, _), warnings = restored(tmp_path, state, {})
    assert not warnings
    assert found.rng.dtype == rng.dtype
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(raw(a), raw(b)), found, state)
    jax.tree.map(lambda a, b: a.dtype == b.dtype or pytest.fail(f"{a.dtype}"), found, state)


def test_a_save_copies_the_state_and_the_sums_of_an_epoch(state, tmp_path):
    sums = {"loss": np.float32([0.1, np.nan, -0.0]), "count": np.int32([32, 32, 7])}
    rows = [
        [{"epoch": 1, "loss": 0.1 + 0.2, "seconds": 1e-300}],
        [{"epoch": 1, "loss": float("inf"), "seconds": 2.5}],
        [],
    ]
    resume_point = ResumePoint(7, range(1, 3), rows, dict(sums), 0.1, True)
    expected = bits(state)
    with Checkpoints(tmp_path, settings=SETTINGS) as saves:
        saves.save(state, resume_point)
        jax.tree.map(lambda x: x.delete(), state.params)
        sums["loss"][:] = 0
    template = create_train_state(MODEL, TX, jax.random.key(9), (28, 28, 1))
    (found, back), _ = restored(tmp_path, template)
    assert bits(found) == expected
    assert back[:3] == resume_point[:3]
    assert (back.seconds, back.stopped) == (0.1, True)
    np.testing.assert_array_equal(back.sums["loss"], np.float32([0.1, np.nan, -0.0]))
    assert np.signbit(back.sums["loss"][2])
    assert {name: (x.dtype, x.shape) for name, x in back.sums.items()} == {
        "loss": (np.float32, (3,)),
        "count": (np.int32, (3,)),
    }


def test_saves_come_every_so_many_steps_and_the_newest_are_kept(state, tmp_path):
    def steps(every, keep):
        folder = tmp_path / f"{every}-{keep}"
        with Checkpoints(folder, every=every, keep=keep) as saves:
            for step in range(1, 8):
                sums = {} if step % 4 == 0 else {"count": np.ones(1)}
                moved = state._replace(step=jnp.int32(step))
                saves(moved, ResumePoint(10 * step, range(1), [[]], sums))
        return saves.steps()

    assert steps(2, 5) == [20, 40, 60]
    assert steps(2, 2) == [40, 60]
    assert steps(3, 1) == [60]
    assert steps("epoch", 5) == [40]
    assert steps(None, 5) == []


def test_leftovers_of_a_killed_save_are_cleaned(saved, state):
    folder, kept = saved
    shutil.copytree(folder / "10", folder / UNFINISHED)
    (folder / "notes.txt").write_text("mine")
    (found, _), warnings = restored(folder, state)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "5", "notes.txt"]
    assert bits(found) == kept[10]
    assert not warnings


def test_a_checkpoint_of_another_run_is_not_overwritten_unasked(saved, state):
    folder, _ = saved
    with Checkpoints(folder) as saves, pytest.raises(FileExistsError, match="of another run"):
        saves.save(state, HERE)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "5"]


def test_other_settings_are_refused_with_the_difference(saved, state):
    folder, _ = saved
    for settings, difference in (
        ({"seed": 0, "rate": 0.2}, r"rate: 0.1 then, 0.2 now"),
        ({"seed": 0}, "rate: 0.1 then, None now"),
        ({**SETTINGS, "padding": "same"}, "padding: None then, 'same' now"),
    ):
        with pytest.raises(ValueError, match=rf"other settings \({difference}\)"):
            restored(folder, state, settings)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "5"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"hidden": (17,)}, r"is \(16,\) float32, but the state's is \(17,\) float32"),
        ({"hidden": (16, 16)}, "is missing, but the state's is"),
        ({"hidden": ()}, "but the state's is missing"),
        ({"hidden": (16,), "param_dtype": "bfloat16"}, "float32, but the state's is .* bfloat16"),
    ],
)
def test_arrays_of_another_model_are_refused(template, message, saved):
    other = create_train_state(
        jaxconv.create_model("dense", **template), TX, jax.random.key(0), (28, 28, 1)
    )
    with pytest.raises(ValueError, match=message):
        restored(saved[0], other)


def test_other_versions_give_a_warning(saved, state, monkeypatch):
    facts = checkpoint.environment() | {"jax_version": "0.0.1", "system": "another kernel"}
    monkeypatch.setattr(checkpoint, "environment", lambda: facts)
    (found, _), warnings = restored(saved[0], state)
    assert bits(found) == saved[1][10]
    assert re.search(r"jax_version: '.*' then, '0.0.1' now\): bits may differ", warnings[0])


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
    saves = Checkpoints(folder, settings=SETTINGS, warn=warnings.append)
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


def full_disk(folder):
    raise OSError(28, "No space left")


def test_a_failed_save_gives_a_warning_and_earlier_ones_stay(state, tmp_path, capsys, monkeypatch):
    warnings = []
    (tmp_path / "file").write_text("")
    with Checkpoints(tmp_path / "file" / "saves", warn=warnings.append) as saves:
        saves.save(state, HERE)
    assert saves.failed == 1
    assert re.match(
        "THE CHECKPOINT .*/file/saves/1 WAS NOT SAVED: .*file.*The training", warnings[0]
    )

    with Checkpoints(tmp_path / "saves") as saves:
        saves.save(state, HERE)
        saves.wait()
        monkeypatch.setattr(checkpoint, "write_sums", full_disk)
        saves.save(state, HERE._replace(step=2))
        saves.wait()
        assert (saves.failed, saves.steps()) == (1, [1])
        monkeypatch.undo()
        saves.save(state, HERE._replace(step=2))
    assert saves.steps() == [1, 2]
    assert "WAS NOT SAVED: [Errno 28] No space left. The training" in capsys.readouterr().err
    assert [path.name for path in sorted((tmp_path / "saves").iterdir())] == ["1", "2"]


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


def test_looking_deletes_nothing_and_foreign_folders_stay(saved, state):
    folder, _ = saved
    for name in (UNFINISHED, "cache.tmp", "007"):
        (folder / name).mkdir()
    (folder / "99").write_text("a file")
    with Checkpoints(folder, settings=SETTINGS) as saves:
        assert saves.steps() == [5, 10]
    assert (folder / UNFINISHED).is_dir()
    with pytest.raises(ValueError, match="other settings"):
        restored(folder, state, {})
    assert (folder / UNFINISHED).is_dir()
    restored(folder, state)
    names = {path.name for path in folder.iterdir()}
    assert names == {"5", "10", "cache.tmp", "007", "99"}


def test_a_save_that_was_interrupted_is_made_again(state, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with Checkpoints(tmp_path) as saves:
        with monkeypatch.context() as context:
            context.setattr(checkpoint, "save_state", interrupt)
            with pytest.raises(KeyboardInterrupt):
                saves.save(state, HERE)
        saves.save(state, HERE)
    assert saves.steps() == [1]


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


def test_after_a_failed_save_old_checkpoints_still_go(state, tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=2, warn=lambda text: None) as saves:
        for step in (1, 2, 3, 4, 5):
            with monkeypatch.context() as context:
                if step == 3:
                    context.setattr(checkpoint, "write_sums", full_disk)
                saves.save(state, HERE._replace(step=step))
                saves.wait()
    assert (saves.failed, saves.steps()) == (1, [4, 5])


def test_every_counts_steps_wherever_chunks_end(state, tmp_path):
    with Checkpoints(tmp_path, every=100, keep=100) as saves:
        for step in range(47, 470, 47):
            sums = {"count": np.ones(1)}
            saves(state._replace(step=jnp.int32(step)), ResumePoint(step, range(1), [[]], sums))
    assert saves.steps() == [141, 235, 329, 423]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be a positive integer, not 0"),
        ({"every": -3}, "every must be a positive integer, not -3"),
        ({"keep": 0}, "keep must be a positive integer, not 0"),
        ({"settings": {"x": float("nan")}}, "not JSON compliant"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_options_are_refused_and_nothing_is_written(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path / "x", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_arrays_come_back_on_any_number_of_devices(tmp_path):
    """Saved by a process with four devices, divided among them; restored by others."""
    script = str(Path(__file__).with_name("devices_check.py"))

    def run(count, *arguments):
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(count), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, script, *arguments, str(tmp_path)]
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert process.returncode == 0, process.stderr
        return process.stdout

    written = run(4, "save").strip()
    found = [json.loads(run(count, "resume")) for count in (1, 2, 4)]
    for one in found:
        assert one["restored"] == written
        assert one["labels"] == found[0]["labels"]
        assert len(one["labels"]) == 64 + 44 + 300  # two batches of the first epoch were left
        assert one["loss"] == pytest.approx(found[0]["loss"], rel=1e-4)
