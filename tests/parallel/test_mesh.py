import numpy as np
import pytest

from jaxconv import parallel


def test_a_run_alone_uses_one_device_and_a_launched_one_all(monkeypatch):
    assert parallel.default_devices() == 1
    assert parallel.name_devices(parallel.data_mesh(1)) == "1 device"
    monkeypatch.setenv("JAX_NUM_PROCESSES", "1")
    assert parallel.default_devices() is None


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(ValueError, match="devices must be at most 1, all that process 0 has"):
        parallel.data_mesh(2)
    with pytest.raises(ValueError, match="devices must be a positive integer, not 0"):
        parallel.data_mesh(0)


def test_one_device_leaves_arrays_as_they_are():
    tree = {"x": np.arange(3)}
    assert parallel.replicate(tree, parallel.data_mesh(1)) is tree
