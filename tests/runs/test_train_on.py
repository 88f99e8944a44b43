"""`--epochs` that grow: a finished run trains on."""

import json
import signal

import numpy as np
import pytest

from jaxconv import load_run, runs
from tests.support.oracles import bits
from tests.support.run_folders import read_rows, run, without_seconds

pytestmark = pytest.mark.usefixtures("few_digits", "no_pictures")


def test_a_finished_run_trains_on_to_the_bit(tmp_path, capsys):
    whole = run("dense", tmp_path / "a", epochs=4)
    run("dense", tmp_path / "b", epochs=2)
    before = load_run(tmp_path / "b").predict(np.zeros((1, 28, 28, 1), np.uint8))
    capsys.readouterr()
    result = run("dense", tmp_path / "b", epochs=4, resume=True, quiet=False)
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'b'} trains on (epochs: 2 then, 4 now)\n" in printed
    assert f"Resumed in {tmp_path / 'b'} at step 10\nEpoch 3/4" in printed
    assert (result["test_loss"], result["epochs"]) == (whole["test_loss"], 4)
    assert [row["epoch"] for row in read_rows(tmp_path / "b")] == [1, 2, 3, 4]
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["training"]["epochs"] == 4
    assert [x["epochs"] for x in config["before"]] == [2]
    trained = [load_run(tmp_path / x) for x in "ab"]
    assert bits(trained[0].state) == bits(trained[1].state)
    zeros = np.zeros((1, 28, 28, 1), np.uint8)
    assert (trained[1].predict(zeros) != before).any()
    arrays = [runs.read_arrays(tmp_path / x / "diagnostics.npz") for x in "ab"]
    np.testing.assert_array_equal(arrays[0]["confidence"], arrays[1]["confidence"])
    with pytest.raises(ValueError, match="epochs: 4 then, 2 now"):
        run("dense", tmp_path / "b", epochs=2, resume=True)


def test_a_run_that_trains_on_may_be_interrupted(interrupted, tmp_path):
    whole = run("dense", tmp_path / "a", epochs=3)
    run("dense", tmp_path / "b", epochs=1)
    interrupted(2, signal.SIGINT, "dense", tmp_path / "b", epochs=3, resume=True)
    assert load_run(tmp_path / "b").result["epochs"] == 1  # it is still there
    result = run("dense", tmp_path / "b", epochs=3, resume=True)
    assert (result["test_loss"], result["resumed_at_step"]) == (whole["test_loss"], 7)


def test_groups_of_seeds_train_on_to_the_bit(interrupted, tmp_path):
    settings = {"seeds": "3,7,11", "group": 2, "batch_size": 100}
    whole = run("dense", tmp_path / "a", epochs=2, **settings)
    run("dense", tmp_path / "b", epochs=1, **settings)
    interrupted(5, signal.SIGINT, "dense", tmp_path / "b", epochs=2, resume=True, **settings)
    result = run("dense", tmp_path / "b", epochs=2, resume=True, **settings)
    assert result["test_loss_by_seed"] == whole["test_loss_by_seed"]
    rows = [sorted(map(str, without_seconds(read_rows(tmp_path / x)))) for x in "ab"]
    assert len(rows[0]) == len(rows[1]) == 6
    trained = [load_run(tmp_path / x) for x in "ab"]
    assert list(map(bits, trained[0].states)) == list(map(bits, trained[1].states))


def test_without_its_last_state_a_run_does_not_train_on(tmp_path):
    run("dense", tmp_path / "a", epochs=1)
    (tmp_path / "a" / "checkpoints" / "5.safetensors").unlink()
    before = (tmp_path / "a" / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"no good checkpoint to train on from: .* --init-from /"):
        run("dense", tmp_path / "a", epochs=2, resume=True)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == before
    run("dense", tmp_path / "b", epochs=1, init_from=str(tmp_path / "a"))
