from types import SimpleNamespace

import jax
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


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"jax_platforms": "cuda"}, AssertionError(), "'cuda' .the platform is not installed"),
        ({"jax_platforms": "x"}, RuntimeError("Unknown 'x'.\n(set)"), r"\(Unknown 'x'.\): unset"),
        ({}, RuntimeError("The GPU is busy"), r"here \(The GPU is busy\): set JAX_PLATFORMS=cpu"),
        ({"jax_num_cpu_devices": 0}, RuntimeError(), "JAX_NUM_CPU_DEVICES must be positive, not 0"),
    ],
)
def test_without_a_device_the_variable_is_named(settings, error, message, monkeypatch):
    """JAX's own errors; `tests/runs/test_cli.py` has a process that gets one."""

    def fail():
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setattr(jax, "config", SimpleNamespace(**{"jax_num_cpu_devices": -1, **settings}))
    for start in (parallel.check_backend, parallel.default_devices, parallel.data_mesh):
        with pytest.raises(ValueError, match=message):
            start()


def test_one_device_leaves_arrays_as_they_are():
    tree = {"x": np.arange(3)}
    assert parallel.replicate(tree, parallel.data_mesh(1)) is tree
