import subprocess
import sys
from pathlib import Path

import pytest

from jaxconv import parallel
from tests.support.launched_runs import own_environment

MESH_CHECK = Path(__file__).with_name("mesh_check.py")


def test_one_device_leaves_the_step_as_it_is():
    def step(state, batch):
        return None

    assert parallel.data_parallel(step, parallel.data_mesh(1)) is step


@pytest.mark.slow
def test_four_devices_of_one_process_train_as_one():
    done = subprocess.run(
        [sys.executable, str(MESH_CHECK)],
        env=own_environment(JAX_NUM_CPU_DEVICES="4"),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["all the same"], done.stderr
