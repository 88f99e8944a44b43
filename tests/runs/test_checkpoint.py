"""What a save keeps, and what it refuses."""

import functools
import json
import os
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
from safetensors.numpy import load_file

import jaxconv
from jaxconv import create_train_state
from jaxconv.runs import checkpoint
from jaxconv.runs.checkpoint import Checkpoints
from jaxconv.training import ResumePoint
from tests.support.checkpoints import MODEL, SETTINGS, TX, restored
from tests.support.oracles import bits

HERE = ResumePoint(1, range(1), [[]])
UNFINISHED = "15.tmp"


def test_the_newest_comes_back_with_every_bit(saved, state):
    folder, kept = saved
    (found, resume_point), warnings = restored(folder, state)
    assert bits(found) == kept[10]
    assert jax.tree.structure(found) == jax.tree.structure(state)
    assert not warnings
    assert (resume_point.step, resume_point.members, resume_point.sums) == (10, range(1), {})
    assert [row["epoch"] for row in resume_point.histories[0]] == [1, 2]
    assert sorted(path.name for path in folder.iterdir()) == ["10.safetensors", "5.safetensors"]
    arrays = load_file(folder / "10.safetensors")  # as another program does
    np.testing.assert_array_equal(arrays["params/dense1/bias"], found.params["dense1"]["bias"])


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
    assert [path.name for path in tmp_path.iterdir()] == ["1.safetensors"]
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
    shutil.copy(folder / "10.safetensors", folder / UNFINISHED)
    (folder / "notes.txt").write_text("mine")
    (found, _), warnings = restored(folder, state)
    assert sorted(path.name for path in folder.iterdir()) == [
        "10.safetensors",
        "5.safetensors",
        "notes.txt",
    ]
    assert bits(found) == kept[10]
    assert not warnings


def test_a_checkpoint_of_another_run_is_not_overwritten_unasked(saved, state):
    folder, _ = saved
    with Checkpoints(folder) as saves, pytest.raises(FileExistsError, match="of another run"):
        saves.save(state, HERE)
    assert sorted(path.name for path in folder.iterdir()) == ["10.safetensors", "5.safetensors"]


def test_other_settings_are_refused_with_the_difference(saved, state):
    folder, _ = saved
    for settings, difference in (
        ({"seed": 0, "rate": 0.2}, r"rate: 0.1 then, 0.2 now"),
        ({"seed": 0}, "rate: 0.1 then, None now"),
        ({**SETTINGS, "padding": "same"}, "padding: None then, 'same' now"),
    ):
        with pytest.raises(ValueError, match=rf"other settings \({difference}\)"):
            restored(folder, state, settings)
    assert sorted(path.name for path in folder.iterdir()) == ["10.safetensors", "5.safetensors"]


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


def full_disk(*_):
    raise OSError(28, "No space left")


def test_a_failed_save_gives_a_warning_and_earlier_ones_stay(state, tmp_path, capsys, monkeypatch):
    warnings = []
    (tmp_path / "file").write_text("")
    with Checkpoints(tmp_path / "file" / "saves", warn=warnings.append) as saves:
        saves.save(state, HERE)
    assert saves.failed == 1
    assert re.match(
        r"THE CHECKPOINT .*/file/saves/1\.safetensors WAS NOT SAVED: .*file.*The training",
        warnings[0],
    )

    with Checkpoints(tmp_path / "saves") as saves:
        saves.save(state, HERE)
        saves.wait()
        monkeypatch.setattr(checkpoint, "write_tensors", full_disk)
        saves.save(state, HERE._replace(step=2))
        saves.wait()
        assert (saves.failed, saves.steps()) == (1, [1])
        monkeypatch.undo()
        saves.save(state, HERE._replace(step=2))
    assert saves.steps() == [1, 2]
    assert "WAS NOT SAVED: [Errno 28] No space left. The training" in capsys.readouterr().err
    assert [path.name for path in sorted((tmp_path / "saves").iterdir())] == [
        "1.safetensors",
        "2.safetensors",
    ]


def test_looking_deletes_nothing_and_foreign_files_stay(saved, state):
    folder, _ = saved
    others = {"cache.tmp", "x.safetensors", "damaged-3.safetensors", "99"}
    for name in (UNFINISHED, *others):
        (folder / name).write_text("")
    with Checkpoints(folder, settings=SETTINGS) as saves:
        assert saves.steps() == [5, 10]
    assert (folder / UNFINISHED).exists()
    with pytest.raises(ValueError, match="other settings"):
        restored(folder, state, {})
    assert (folder / UNFINISHED).exists()
    restored(folder, state)
    names = {path.name for path in folder.iterdir()}
    assert names == {"5.safetensors", "10.safetensors", *others}


def test_a_checkpoint_of_an_older_version_is_refused(saved, state):
    folder, _ = saved
    (folder / "15").mkdir()
    with pytest.raises(ValueError, match="saves/15 is a checkpoint of an older version of jaxconv"):
        restored(folder, state)


def test_of_each_finished_group_the_newest_stays(state, tmp_path):
    with Checkpoints(tmp_path, keep=2) as saves:
        for step in range(1, 9):
            first = step // 4
            saves.save(state, HERE._replace(step=step, members=range(first, first + 1)))
    names = ["3", "7-1", "8-2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{x}.safetensors" for x in names]


def test_a_setting_may_have_grown(saved, state):
    folder, kept = saved
    for name, settings in (("rate", {"seed": 0, "rate": 0.2}), ("more", SETTINGS)):
        with Checkpoints(folder, settings=settings, grows=name) as saves:
            assert bits(saves.restore(state)[0]) == kept[10]
    smaller = Checkpoints(folder, settings={"seed": 0, "rate": 0.05}, grows="rate")
    with pytest.raises(ValueError, match=r"rate: 0\.1 then, 0\.05 now"):
        smaller.restore(state)


def test_a_save_that_was_interrupted_is_made_again(state, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with Checkpoints(tmp_path) as saves:
        with monkeypatch.context() as context:
            context.setattr(saves._writer, "submit", interrupt)
            with pytest.raises(KeyboardInterrupt):
                saves.save(state, HERE)
        saves.save(state, HERE)
    assert saves.steps() == [1]


def test_after_a_failed_save_old_checkpoints_still_go(state, tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=2, warn=lambda text: None) as saves:
        for step in (1, 2, 3, 4, 5):
            with monkeypatch.context() as context:
                if step == 3:
                    context.setattr(checkpoint, "write_tensors", full_disk)
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
