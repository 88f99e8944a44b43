import dataclasses
import functools
import importlib
import json
import signal

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv import runs
from jaxconv.runs import experiment, prepare
from jaxconv.runs import files as run_files
from jaxconv.runs.resume import fingerprints, read_config
from jaxconv.runs.signals import Terminated
from jaxconv.runs.tensors import read_tensors
from tests.runs.kill_runs import outcome
from tests.support.run_folders import REPORT_FILES, read_rows, run, without_seconds

pytestmark = pytest.mark.usefixtures("few_digits", "no_pictures")
OTHERS = ("strided", "lab6", "intro", "dropout")  # slow to compile
NETS = ["dense", *(pytest.param(net, marks=pytest.mark.slow) for net in OTHERS)]


@pytest.mark.parametrize("net", NETS)
def test_an_interrupted_run_resumes_to_the_bit(net, interrupted, tmp_path, capsys):
    whole = run(net, tmp_path / "a", save_every="epoch")
    assert whole["resumed_at_step"] is None
    kind = interrupted(7, signal.SIGTERM, net, tmp_path / "b")
    assert kind is Terminated
    printed = capsys.readouterr().out
    assert "Saved at step 7. To resume, repeat the options (without --overwrite)" in printed
    kind = interrupted(2, signal.SIGINT, net, tmp_path / "b", resume=True)
    assert kind is KeyboardInterrupt
    assert f"Resumed in {tmp_path / 'b'} at step 7\n" in capsys.readouterr().out
    result = run(net, tmp_path / "b", resume=True, save_every="epoch")
    assert result["resumed_at_step"] == 9
    assert outcome(tmp_path / "b") == outcome(tmp_path / "a")
    assert result["seconds_train"] == pytest.approx(
        sum(row["seconds"] for row in read_rows(tmp_path / "b"))
    )
    assert result["seconds_evaluation"] > 0
    files = {path.name for path in (tmp_path / "b").iterdir()}
    names = {"config.json", "metrics.jsonl", "result.json", "checkpoints", ".lock"}
    assert files == {*names, *REPORT_FILES}


@pytest.mark.parametrize("chunks", [9, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 12))])
def test_interrupted_seeds_resume_to_the_bit(chunks, interrupted, tmp_path):
    """In the first group and in the second, within an epoch and at its end."""
    settings = {"seeds": "3,7,11", "group": 2, "epochs": 2, "batch_size": 100}
    whole = run("dense", tmp_path / "a", **settings)
    interrupted(chunks, signal.SIGINT, "dense", tmp_path / "b", **settings)
    result = run("dense", tmp_path / "b", resume=True, **settings)
    step = {3: 6, 9: 15, 12: 18}[chunks]
    assert result["resumed_at_step"] == step
    differing = ("resumed_at_step", "programs", "programs_compiled", "compilation_cache")
    for name in whole:
        if not name.startswith("seconds") and name not in differing:
            assert result[name] == whole[name], name
    rows = [without_seconds(read_rows(tmp_path / x)) for x in "ab"]
    assert rows[0] == rows[1]


def test_without_a_checkpoint_a_run_prints_that_it_begins_anew(tmp_path, capsys):
    whole = run("dense", tmp_path / "a")
    result = run("dense", tmp_path / "b", resume=True)
    assert "at step 0: no checkpoint, so from the beginning" in capsys.readouterr().out
    assert result["test_loss"] == whole["test_loss"]
    assert result["resumed_at_step"] == 0


def test_a_run_warns_of_damaged_checkpoints_and_ends_all_the_same(tmp_path, capsys):
    run("dense", tmp_path / "a", save_every=4, keep=4)
    expected = outcome(tmp_path / "a")
    for name in ("result.json", "config.json", "metrics.jsonl"):
        (tmp_path / "a" / name).unlink()
    for step in ("15", "12", "8"):
        path = tmp_path / "a" / "checkpoints" / f"{step}.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    result = run("dense", tmp_path / "a", save_every=4, keep=3, resume=True)
    warnings = capsys.readouterr().err
    for step in (15, 12, 8):
        assert f"checkpoints/{step}.safetensors is damaged: its bytes are not those" in warnings
    assert result["resumed_at_step"] == 4
    assert outcome(tmp_path / "a") == expected
    assert json.loads((tmp_path / "a" / "config.json").read_text())["experiment"] == "dense"


@pytest.mark.parametrize("content", ["[1]", "[]", "{}", "null", "{", "[" * 100_000, "\x00"])
def test_a_damaged_config_is_named(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)
    assert read_config(tmp_path) is None
    assert "config.json is damaged, so its settings are unknown: " in capsys.readouterr().out


def test_a_finished_run_is_not_trained_again(tmp_path, capsys):
    whole = run("dense", tmp_path / "a")
    before = {path: path.read_bytes() for path in (tmp_path / "a").glob("*.*")}
    capsys.readouterr()
    assert run("dense", tmp_path / "a", resume=True) == json.loads(json.dumps(whole))
    printed = capsys.readouterr().out
    assert printed.startswith(f"Test loss: {whole['test_loss']:.4f}\nTest accuracy: ")
    assert printed.endswith(f"The run is finished: {tmp_path / 'a'}\n")
    assert {path: path.read_bytes() for path in (tmp_path / "a").glob("*.*")} == before
    (tmp_path / "a" / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"result.json is damaged \(.*\): delete it to resume"):
        run("dense", tmp_path / "a", resume=True)


def test_the_newest_run_of_the_seed_is_resumed(interrupted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder runs/dense-0-N"):
        run("dense", None, resume=True)
    assert not list(tmp_path.iterdir())
    run("dense", None)
    for n in range(2, 11):
        (tmp_path / "runs" / f"dense-0-{n}").mkdir()
    (tmp_path / "runs" / "dense-0-notes").mkdir()
    interrupted(1, signal.SIGINT, "dense", None)
    interrupted(1, signal.SIGINT, "dense", None, seed=1)
    run("dense", None, resume=True)
    assert "Resumed in runs/dense-0-11 at step 1\n" in capsys.readouterr().out
    assert (tmp_path / "runs" / "dense-0-11" / "result.json").exists()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"learning_rate": 0.1}, "learning_rate: 0.001 then, 0.1 now"),
        ({"epochs": 2}, "epochs: 3 then, 2 now"),
        ({"batch_size": 32}, "batch_size: 64 then, 32 now"),
        ({"seed": 1}, "seed: 0 then, 1 now"),
        ({"validation_split": 0.5, "seed": 2}, "seed: 0 then, 2 now; validation_split: 0.0 then"),
        ({"seeds": "3"}, "seeds: None then, '3' now"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_written(
    change, difference, interrupted, tmp_path
):
    interrupted(4, signal.SIGINT, "dense", tmp_path / "a")
    for config in (True, False):  # a checkpoint knows them too
        if not config:
            (tmp_path / "a" / "config.json").unlink()
        before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
        with pytest.raises(ValueError, match=difference):
            run("dense", tmp_path / "a", resume=True, **change)
        after = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
        assert after == before


def test_other_data_of_the_same_name_are_refused(interrupted, digits, tmp_path, monkeypatch):
    interrupted(4, signal.SIGINT, "dense", tmp_path / "a")
    train = digits.train
    image = train.image.copy()
    image[0, 0, 0] ^= 1
    other = jaxconv.Dataset.from_arrays(
        image, train.label, digits.test.image, digits.test.label, name="digits"
    )
    monkeypatch.setattr(prepare, "load_dataset", lambda *_, **__: other)
    with pytest.raises(ValueError, match=r"data: '[0-9a-f]{64}' then, '[0-9a-f]{64}' now"):
        run("dense", tmp_path / "a", resume=True)


@pytest.mark.slow
def test_operational_settings_may_change(interrupted, tmp_path):
    whole = run("dense", tmp_path / "a")
    interrupted(4, signal.SIGINT, "dense", tmp_path / "b")
    export = str(tmp_path / "x.weights.h5")
    settings = {"quiet": False, "compilation_cache": False, "save_every": 2, "keep": 5}
    result = run("dense", tmp_path / "b", resume=True, export_keras=export, **settings)
    assert result["test_loss"] == whole["test_loss"]
    steps = sorted(int(path.stem) for path in (tmp_path / "b" / "checkpoints").iterdir())
    assert steps == [8, 10, 12, 14, 15]


def test_overwrite_deletes_the_checkpoints_too(interrupted, tmp_path):
    interrupted(4, signal.SIGINT, "dense", tmp_path / "a")
    with pytest.raises(FileExistsError, match=r"\(config.json, checkpoints\)"):
        run("dense", tmp_path / "a")
    run("dense", tmp_path / "a", overwrite=True)
    names = [path.name for path in (tmp_path / "a" / "checkpoints").iterdir()]
    assert names == ["15.safetensors"]  # that of its own end


def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(tmp_path, monkeypatch):
    """The learning rate is legal; the loss is not finite after a while."""
    strided = functools.partial(run, "strided", epochs=30, learning_rate=3e17)
    with pytest.raises(FloatingPointError, match=r"The loss is .* checkpoint does not exist"):
        strided(tmp_path / "a")
    with pytest.raises(FloatingPointError, match=rf"good checkpoint is {tmp_path}/b/checkp"):
        strided(tmp_path / "b", save_every=1)
    steps = [path.name for path in (tmp_path / "b" / "checkpoints").iterdir()]
    assert steps
    for step in steps:
        arrays = read_tensors(tmp_path / "b" / "checkpoints" / step)
        assert all(np.isfinite(x).all() for name, x in arrays.items() if name.startswith("params"))
    assert not (tmp_path / "b" / "result.json").exists()


@pytest.mark.slow
def test_seeds_that_all_diverge_end_with_their_names(tmp_path, capsys):
    settings = {"seeds": "2", "epochs": 30, "learning_rate": 3e17}
    assert run("strided", tmp_path / "a", **settings)["diverged"] == [0, 1]


def test_rows_that_a_full_disk_refused_are_written_later(tmp_path, monkeypatch, capsys):
    append_row, calls = run_files.append_row, []

    def full(path, row):
        calls.append(row)
        if len(calls) in (1, 2):
            raise OSError(28, "No space left on device")
        append_row(path, row)

    monkeypatch.setattr(run_files, "append_row", full)
    run("dense", tmp_path / "a")
    assert [row["epoch"] for row in read_rows(tmp_path / "a")] == [1, 2, 3]
    assert capsys.readouterr().err.count("metrics.jsonl WAS NOT WRITTEN") == 2


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, monkeypatch):
    """While the first is under way, however the second is asked to treat the folder."""
    seen = []
    fit = experiment.fit_seeds

    def second(*arguments, **options):
        before = sorted(path.name for path in (tmp_path / "a").iterdir())
        for settings in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(BlockingIOError, match="in use by another run: wait"):
                run("dense", tmp_path / "a", **settings)
            seen.append(settings)
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == before
        return fit(*arguments, **options)

    monkeypatch.setattr(experiment, "fit_seeds", second)
    run("dense", tmp_path / "a")
    assert len(seen) == 3
    run("dense", tmp_path / "a", overwrite=True)  # free again


def test_a_signal_at_the_end_loses_nothing(tmp_path, monkeypatch, capsys):
    """After the training, with no checkpoint asked for."""
    summarise = experiment.summarise

    def signalled(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)
        return summarise(*arguments, **options)

    monkeypatch.setattr(experiment, "summarise", signalled)
    with pytest.raises(Terminated):
        run("dense", tmp_path / "a")
    assert f"The run is finished: {tmp_path / 'a'}" in capsys.readouterr().out
    monkeypatch.setattr(experiment, "summarise", summarise)
    files = {path.name for path in (tmp_path / "a").iterdir()}
    names = {"config.json", "metrics.jsonl", "result.json", "checkpoints", ".lock"}
    assert files == {*names, *REPORT_FILES}
    assert run("dense", tmp_path / "a", resume=True)["test_loss"] is not None


@pytest.mark.slow
def test_initial_weights_count_by_their_content(interrupted, tmp_path):
    weights = [str(tmp_path / f"{n}.weights.h5") for n in range(2)]
    for seed, path in enumerate(weights):
        run("dense", tmp_path / path[-12], seed=seed, epochs=1, export_keras=path)
    settings = {"seeds": "2", "group": 1, "init_from": weights[0]}
    interrupted(7, signal.SIGINT, "dense", tmp_path / "b", **settings)
    with pytest.raises(ValueError, match=r"initial_weights: '.*' then, '.*' now"):
        run("dense", tmp_path / "b", resume=True, **(settings | {"init_from": weights[1]}))
    (tmp_path / "0.weights.h5").rename(tmp_path / "moved.weights.h5")
    settings["init_from"] = str(tmp_path / "moved.weights.h5")
    result = run("dense", tmp_path / "b", resume=True, **settings)
    assert result["resumed_at_step"] == 7


def test_weights_are_exported_by_a_resumed_run_and_missed_in_a_finished_one(interrupted, tmp_path):
    path = tmp_path / "x.weights.h5"
    interrupted(7, signal.SIGINT, "dense", tmp_path / "a", export_keras=str(path))
    assert not path.exists()
    run("dense", tmp_path / "a", export_keras=str(path), resume=True)
    assert path.exists()
    run("dense", tmp_path / "a", export_keras=str(path), resume=True)  # as a job that starts again
    with pytest.raises(ValueError, match=r"finished, and .*y.weights.h5 was not among"):
        run("dense", tmp_path / "a", export_keras=str(tmp_path / "y.weights.h5"), resume=True)


@pytest.mark.slow
def test_settings_are_compared_as_json_has_them(interrupted, tmp_path, monkeypatch):
    """A tuple comes back as a list."""
    dense = importlib.import_module("experiments.dense")

    @dataclasses.dataclass(frozen=True)
    class Model(runs.Model):
        hidden: tuple[int, ...] = (16,)

    monkeypatch.setattr(dense, "CONFIG", dataclasses.replace(dense.CONFIG, model=Model()))
    interrupted(7, signal.SIGINT, "dense", tmp_path / "a")
    assert run("dense", tmp_path / "a", resume=True)["resumed_at_step"] == 7
    (tmp_path / "a" / "result.json").unlink()
    with pytest.raises(ValueError, match=r"hidden: \[16\] then, \[17\] now"):
        run("dense", tmp_path / "a", resume=True, hidden=(17,))


def test_jax_options_that_change_random_numbers_are_compared(interrupted, tmp_path):
    interrupted(7, signal.SIGINT, "dense", tmp_path / "a")
    with (
        jax.threefry_partitionable(not jax.config.jax_threefry_partitionable),
        pytest.raises(ValueError, match="jax_threefry_partitionable: 'True' then, 'False' now"),
    ):
        run("dense", tmp_path / "a", resume=True)


def test_every_bit_of_data_and_weights_changes_the_fingerprint(digits):
    found = fingerprints(digits, None)
    assert found["initial_weights"] is None
    label = digits.train.label.copy()
    label[-1] = (label[-1] + 1) % 10
    other = dataclasses.replace(digits, train=dataclasses.replace(digits.train, label=label))
    assert fingerprints(other, None)["data"] != found["data"]
    assert fingerprints(digits.split_validation(0.5), None)["data"] != found["data"]
    weights = {"a": np.zeros(3, np.float32), "b": jax.numpy.ones(2)}
    first = fingerprints(digits, weights)["initial_weights"]
    weights["a"][2] = -0.0
    assert fingerprints(digits, weights)["initial_weights"] != first
