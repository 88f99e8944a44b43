import importlib
import platform
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxconv.measure.environment import environment, peak_memory

MODULE = importlib.import_module("jaxconv.measure.environment")


def test_the_environment_has_versions_devices_and_flags(monkeypatch):
    assert jax.devices()  # XLA has read its flags, and does not see the unknown one
    monkeypatch.setenv("XLA_FLAGS", "--xla_some_flag=1")
    facts = environment()
    assert facts["jax_version"] == jax.__version__
    assert facts["backend"] == jax.default_backend()
    assert facts["device_count"] == jax.device_count()
    assert facts["xla_flags"] == "--xla_some_flag=1"
    assert facts["python_version"] == platform.python_version()
    assert facts["cpu"]
    assert facts["cpu_count"] >= 1


def test_the_peak_memory_includes_an_array_that_is_gone():
    script = (
        "import numpy as np; from jaxconv.measure.environment import peak_memory as p; a = p(); "
        "x = np.ones(2**24); del x; b = p(); "
        "print(a['peak_rss_bytes'], b['peak_rss_bytes'], b['peak_device_bytes'])"
    )
    # The parent is larger than its child: Linux would count it in the child's ru_maxrss.
    parents = np.ones(2**26)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after, device = run.stdout.split()
    assert 2**27 * 0.9 <= int(after) - int(before) <= 2**27 * 1.1
    assert int(before) < parents.nbytes
    if jax.default_backend() == "cpu":
        assert device == "None"


@pytest.mark.skipif(platform.system() != "Linux", reason="compares with /proc")
def test_without_proc_the_system_reports_the_peak(monkeypatch):
    from_proc = peak_memory()["peak_rss_bytes"]
    monkeypatch.setattr(MODULE, "Path", lambda _: Path("/nowhere"))
    assert peak_memory()["peak_rss_bytes"] >= 0.9 * from_proc
