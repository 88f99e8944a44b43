import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv import parallel
from jaxconv.parallel.launch import variables
from tests.parallel.process_loss_check import launched, lose, own_environment, pid_of, wait_for
from tests.support import EXPERIMENTS, SMALL_RUN
from tests.support.command_line_runs import run_cli
from tests.support.made_sets import prepare

HERE = Path(__file__).parent
PORT = 20_000 + os.getpid() % 10_000
ASK = "from jaxconv import parallel; parallel.initialize(); import jax; "
ASK += "print(jax.process_index(), jax.process_count(), parallel.all_max(jax.process_index()))"


def slurm(rank: int) -> dict[str, str]:
    """What `srun --ntasks 2` sets, among much else; JAX makes the port from the job's number."""
    return {
        "SLURM_JOB_ID": str(PORT),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_STEP_NUM_NODES": "1",
    }


def open_mpi(rank: int) -> dict[str, str]:
    return {
        "OMPI_MCA_orte_hnp_uri": f"{(PORT + 1) * 2**12}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
    }


def from_variables(rank: int) -> dict[str, str]:
    return variables(f"localhost:{PORT + 2}", 2, rank, 1)


@pytest.mark.parametrize("cluster", [slurm, open_mpi, from_variables])
def test_processes_find_their_numbers_where_their_cluster_says_them(cluster):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", ASK],
            env=own_environment(**cluster(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for rank, child in enumerate(children):
        out, err = child.communicate(timeout=120)
        assert (child.returncode, out.splitlines()[-1:]) == (0, [f"{rank} 2 1"]), err


def test_alone_nothing_happens(monkeypatch):
    assert parallel.default_devices() == 1
    monkeypatch.setenv("JAX_NUM_PROCESSES", "1")
    assert parallel.default_devices() is None  # launched, be it alone
    parallel.initialize()
    parallel.initialize(num_processes=1)
    assert not jax.distributed.is_initialized()
    assert parallel.is_first()
    assert parallel.name_devices(parallel.data_mesh(1)) == "1 device"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_processes": 0}, "num_processes must be a positive integer, not 0"),
        ({"num_processes": 2, "process_id": 2}, r"\(2 processes\): it cannot be 2"),
        ({"num_processes": 2, "process_id": -1}, "it cannot be -1"),
        (
            {"coordinator_address": "a:1", "num_processes": 2, "process_id": 0},
            "JAX was used before",
        ),
    ],
)
def test_numbers_that_make_no_sense_are_refused(settings, message):
    jax.devices()
    with pytest.raises(ValueError, match=message):
        parallel.initialize(**settings)


def test_a_variable_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES must be an integer, not 'two'"):
        parallel.initialize()


def test_what_is_missing_is_told():
    code = "from jaxconv import parallel; parallel.initialize(num_processes=2)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=own_environment(), capture_output=True, text=True
    )
    assert "ValueError: Of several processes each needs the coordinator's address" in done.stderr
    assert "(None, 2, None)" in done.stderr


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(ValueError, match="devices must be at most 1, all that process 0 has"):
        parallel.data_mesh(2)
    with pytest.raises(ValueError, match="devices must be a positive integer, not 0"):
        parallel.data_mesh(0)


def test_one_device_leaves_all_as_it_is():
    mesh, step = parallel.data_mesh(1), lambda state, batch: None
    assert parallel.data_parallel(step, mesh) is step
    tree = {"x": np.arange(3)}
    assert parallel.replicate(tree, mesh) is tree


def test_what_the_first_raises_is_raised():
    with pytest.raises(FileExistsError, match="there"):
        parallel.on_first(lambda: (_ for _ in ()).throw(FileExistsError("there")))


LOST = "UNKNOWN: Gloo all-reduce failed: [x/pair.cc:538] Read error: Connection reset by peer"


@pytest.mark.parametrize(
    ("error", "processes", "told"),
    [
        (ValueError(LOST), 2, True),
        (RuntimeError("INTERNAL: NCCL operation failed: connection closed"), 2, True),
        (ValueError(LOST), 1, False),
        (ValueError("no file /data/gloo/peer"), 2, False),
        (parallel.AgreedError(LOST), 2, False),
    ],
)
def test_a_lost_process_is_told_and_nothing_else_taken_for_it(monkeypatch, error, processes, told):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    expected = ConnectionError if told else type(error)
    with pytest.raises(expected) as caught, parallel.name_lost_peer():
        raise error
    assert ("Process 0 of 2 has lost another one" in str(caught.value)) is told


def test_one_task_of_a_cluster_works_alone():
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=own_environment(**slurm(0) | {"SLURM_NTASKS": "1"}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "1", "0"]


def test_tasks_of_a_cluster_that_used_jax_before_are_refused(monkeypatch):
    jax.devices()
    monkeypatch.setenv("SLURM_NTASKS", "8")
    with pytest.raises(ValueError, match="JAX was used before the processes were told"):
        parallel.initialize()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "0"], "devices must be a positive integer, not 0"),
        (["--devices", "2"], "devices must be at most 1"),
        (["--processes", "0"], "num_processes must be a positive integer, not 0"),
        (["--processes", "2", "--process-id", "2"], "it cannot be 2"),
    ],
)
def test_options_that_make_no_sense_are_refused(monkeypatch, capsys, tmp_path, options, message):
    folder = tmp_path / "run"
    code, said = run_cli(monkeypatch, capsys, "dense", *options, "--output-dir", str(folder))
    assert (code, message in said) == (2, True), said
    assert not folder.exists()


@pytest.mark.slow
def test_four_devices_of_one_process_train_as_one():
    done = subprocess.run(
        [sys.executable, str(HERE / "mesh_check.py")],
        env=own_environment(JAX_NUM_CPU_DEVICES="4"),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["all the same"], done.stderr


def finished(process: subprocess.Popen[str], folder: Path) -> tuple[dict, str]:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return json.loads((folder / "result.json").read_text()), said


def test_two_processes_train_as_one_and_one_of_them_writes(tmp_path, monkeypatch, capsys, digits):
    options = ["--epochs", "2", "--save-every", "4"]
    both, said = finished(launched("2x1", "dense", tmp_path / "two", *options), tmp_path / "two")
    monkeypatch.setattr(jaxconv.experiment, "load_dataset", lambda *_, **__: digits)
    code, _ = run_cli(
        monkeypatch, capsys, "dense", *options, "--output-dir", str(tmp_path / "alone")
    )
    assert code == 0
    alone = json.loads((tmp_path / "alone" / "result.json").read_text())
    for figure in ("test_loss", "train_loss"):
        assert both[figure] == pytest.approx(alone[figure], rel=1e-5)
    assert (both["processes"], both["devices"]) == (2, 2)
    assert (alone["processes"], alone["devices"]) == (1, 1)
    assert "[0] Each batch is divided among 2 devices of 2 processes" in said
    others = [line for line in said.splitlines() if line.startswith("[1]") and "Gloo" not in line]
    assert others == []
    names = [sorted(path.name for path in (tmp_path / x).iterdir()) for x in ("two", "alone")]
    assert names[0] == names[1]
    rows = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 2
    saved = sorted(path.name for path in (tmp_path / "two" / "checkpoints").iterdir())
    assert saved == sorted(path.name for path in (tmp_path / "alone" / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "rank", "layout"),
    [
        (signal.SIGKILL, 1, "2x1"),
        (signal.SIGKILL, 0, "1x1"),
        (signal.SIGSTOP, 1, "1x2"),
        (signal.SIGSTOP, 0, "1x1"),
    ],
)
def test_when_one_is_lost_the_others_end_and_the_run_resumes(tmp_path, number, rank, layout):
    folder, options = tmp_path / "run", ["--epochs", "200", "--save-every", "20"]
    _, said = lose(number, rank, folder, *options)
    # By itself, not by the launcher, which would say so after its 30 seconds.
    assert f"Process {1 - rank} was ended by SIGABRT" in said
    if number == signal.SIGKILL:
        assert f"Process {rank} was ended by SIGKILL" in said
    else:
        assert f"Process {rank} did not end within 30 s: killed" in said
    if rank:
        assert f"\n[0] {rank}\n" in said[said.index("coordination_service.cc") :]
    else:  # which hosts the service that would name it
        assert "Failed to send RPC to coordination service" in said or "Heartbeat" in said
    assert not (folder / "result.json").exists()
    resumed, said = finished(launched(layout, "dense", folder, *options, "--resume"), folder)
    assert f"Resumed in {folder} at step {resumed['resumed_at_step']}" in said
    assert f"{resumed['processes']}x{resumed['devices'] // resumed['processes']}" == layout
    assert resumed["resumed_at_step"] >= 40
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 201))
    if layout == "2x1":  # the same one: to the bit
        whole, _ = finished(launched("2x1", "dense", tmp_path / "b", *options), tmp_path / "b")
        assert resumed["test_loss"] == whole["test_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["1x1", "3x1"])
def test_a_run_that_was_interrupted_resumes_with_another_number_of_processes(tmp_path, layout):
    folder, options = tmp_path / "run", ["--epochs", "12", "--save-every", "100000"]
    process = launched("2x1", "dropout", folder, *options)
    wait_for(folder / "metrics.jsonl", process)
    os.kill(pid_of(1, folder), signal.SIGTERM)  # one hears it, all save and end
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    (saved,) = (folder / "checkpoints").iterdir()
    assert f"Saved at step {saved.name}" in said
    whole, _ = finished(
        launched("1x1", "dropout", tmp_path / "whole", *options), tmp_path / "whole"
    )
    resumed, said = finished(launched(layout, "dropout", folder, *options, "--resume"), folder)
    assert f"Resumed in {folder} at step {saved.name}" in said
    assert resumed["resumed_at_step"] == int(saved.name)
    assert resumed["test_loss"] == pytest.approx(whole["test_loss"], rel=1e-3)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 13))


@pytest.mark.slow
def test_what_the_first_refuses_all_refuse_with_its_words(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "result.json").write_text("{}")
    process = launched("2x1", "dense", folder, "--epochs", "1")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert f"[0] error: {folder} already holds a run" in said
    assert f"[1] error: Process 0 of 2 cannot go on: {folder} already holds a run" in said
    assert "Check failure" not in said


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_all_alike(tmp_path):
    process = launched("2x1", "dense", tmp_path / "run", "--epochs", "3", "--learning-rate", "1e30")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert [f"[{rank}] error: The loss is" in said for rank in (0, 1)] == [True, True]


@pytest.mark.slow
def test_several_seeds_on_several_processes_are_the_seeds_alone(tmp_path):
    options = ["--epochs", "1", "--seeds", "2"]
    two, _ = finished(launched("2x1", "dropout", tmp_path / "a", *options), tmp_path / "a")
    one, _ = finished(launched("1x1", "dropout", tmp_path / "b", *options), tmp_path / "b")
    assert two["test_loss_by_seed"] == pytest.approx(one["test_loss_by_seed"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TFDS' own
def test_processes_stream_their_own_rows_and_resume_as_another_number(tmp_path, digits):
    """The last batch has two samples, so that two of four processes have none of it."""
    prepare(tmp_path, "digits", train=digits.train, test=digits.test)
    options = ["--dataset", "tfds:digits", "--data-dir", str(tmp_path), "--batch-size", "149"]
    options += ["--epochs", "20", "--save-every", "5"]
    results = {}
    for name, layout, more in (("a", "1x1", []), ("b", "4x1", ["--stream"])):
        script = {"script": EXPERIMENTS / "dense.py"}
        process = launched(layout, "", tmp_path / name, *options, *more, **script)
        results[name], _ = finished(process, tmp_path / name)
    assert results["b"]["processes"] == 4
    for figure in ("test_loss", "train_loss"):
        assert results["b"][figure] == pytest.approx(results["a"][figure], rel=1e-3)
    (tmp_path / "b" / "result.json").unlink()
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "60")
    process = launched("2x1", "", tmp_path / "b", *options, "--stream", "--resume", **script)
    resumed, _ = finished(process, tmp_path / "b")
    assert resumed["resumed_at_step"] == 55
    assert resumed["test_loss"] == pytest.approx(results["a"]["test_loss"], rel=1e-3)


@pytest.mark.slow
def test_processes_that_were_told_otherwise_are_refused(tmp_path):
    command = [sys.executable, str(SMALL_RUN), "dense", "--processes", "2"]
    command += ["--coordinator", f"localhost:{PORT + 3}", "--output-dir", str(tmp_path / "run")]
    children = [
        subprocess.Popen(
            [*command, "--process-id", str(rank), "--epochs", str(5 + rank)],
            env=own_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for rank, child in enumerate(children):
        _, err = child.communicate(timeout=120)
        assert child.returncode == 2, err
        assert f"error: Process {rank} of 2: all processes need the settings" in err
    assert "(epochs: 6 here, 5 there)" in err
    assert not (tmp_path / "run").exists()
