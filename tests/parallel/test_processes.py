import os
import subprocess
import sys

import jax
import pytest

from jaxconv import parallel
from jaxconv.parallel.launch import process_environment
from tests.support.launched_runs import own_environment

PORT = 20_000 + os.getpid() % 10_000
ASK = "from jaxconv import parallel; parallel.initialize(); import jax; "
ASK += "print(jax.process_index(), jax.process_count(), parallel.all_max(jax.process_index()))"


def slurm(rank: int) -> dict[str, str]:
    """The variables of `srun --ntasks 2` that count; JAX makes the port from the job's number."""
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
    return process_environment(f"localhost:{PORT + 2}", 2, rank, 1)


@pytest.mark.parametrize("cluster", [slurm, open_mpi, from_variables])
def test_processes_find_their_numbers_in_their_cluster(cluster):
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
    monkeypatch.setenv("JAX_NUM_PROCESSES", "1")
    parallel.initialize()
    parallel.initialize(num_processes=1)
    assert not jax.distributed.is_initialized()
    assert parallel.is_first()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_processes": 0}, "num_processes must be a positive integer, not 0"),
        ({"num_processes": 2, "process_id": 2}, r"\(2 processes\): it cannot be 2"),
        ({"num_processes": 2, "process_id": -1}, "it cannot be -1"),
        ({"coordinator_address": "there"}, "address is HOST:PORT, not 'there'"),
        ({"coordinator_address": ""}, "address is HOST:PORT, not ''"),
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


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES must be an integer, not 'two'"),
        ({"JAX_COORDINATOR_ADDRESS": "there"}, "address is HOST:PORT, not 'there'"),
        ({"JAX_COORDINATOR_PORT": "x"}, "JAX_COORDINATOR_PORT must be an integer, not 'x'"),
        ({"JAX_LOCAL_DEVICE_IDS": "0;1"}, "JAX_LOCAL_DEVICE_IDS must be integers such as 0,1"),
        ({"OMPI_COMM_WORLD_SIZE": "two"}, "OMPI_COMM_WORLD_SIZE must be an integer, not 'two'"),
        (
            slurm(0) | {"SLURM_NTASKS": "4(x2)"},
            r"NTASKS must be an integer, not '4\(x2\)': correct",
        ),
        (slurm(0) | {"SLURM_NTASKS": ""}, "SLURM_NTASKS is empty"),
        (slurm(0) | {"SLURM_STEP_NODELIST": ""}, "SLURM_STEP_NODELIST is empty, so this process"),
        (open_mpi(0) | {"OMPI_COMM_WORLD_RANK": ""}, "OMPI_COMM_WORLD_RANK is empty"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused_by_name(variables, message, monkeypatch):
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=message):
        parallel.initialize()
    parallel.initialize(num_processes=1)  # the remedy


def test_an_empty_variable_counts_as_none(monkeypatch):
    for name in (*process_environment("", 1, 0, 1), "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "")
    parallel.initialize()
    assert not jax.distributed.is_initialized()
    assert parallel.default_devices() == 1


def test_missing_numbers_are_named():
    code = "from jaxconv import parallel; parallel.initialize(num_processes=2)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=own_environment(), capture_output=True, text=True
    )
    assert "ValueError: Each of several processes needs the coordinator's address" in done.stderr
    assert "(None, 2, None)" in done.stderr


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
    with pytest.raises(ValueError, match="JAX was used before this process joined"):
        parallel.initialize()
