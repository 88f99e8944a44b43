"""Facts about a measurement: its host, devices, versions, memory and age."""

import importlib.metadata
import os
import platform
from pathlib import Path

import jax


def peak_memory() -> dict[str, int | None]:
    """The peak of this process' resident memory, and of its first device's memory, in bytes.

    The device's peak is None if the backend does not count it, as on CPU.

    Example:
      >>> peak_memory()["peak_rss_bytes"] > 2**20
      True
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    status = Path("/proc/self/status")
    if status.exists():
        rss = 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    else:
        import resource  # Windows has none

        unit = 1 if platform.system() == "Darwin" else 1024
        rss = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_rss_bytes": rss, "peak_device_bytes": stats.get("peak_bytes_in_use")}


def host() -> dict[str, str | int]:
    """The host: its CPU, the number of cores that this process may use, system and Python.

    Example:
      >>> sorted(host())
      ['cpu', 'cpu_count', 'python_version', 'system']
    """
    cpuinfo = Path("/proc/cpuinfo")
    named = cpuinfo.read_text().partition("model name")[2] if cpuinfo.exists() else ""
    usable = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": named.partition("\n")[0].strip(" \t:") or platform.processor() or platform.machine(),
        "cpu_count": len(usable(0)) if usable else os.cpu_count() or 1,
        "python_version": platform.python_version(),
        "system": platform.platform(),
    }


def environment() -> dict[str, str | int]:
    """Backend, device, host, XLA's flags and versions, as every result contains them.

    Example:
      >>> sorted(environment())[:5]
      ['backend', 'cpu', 'cpu_count', 'device_count', 'device_kind']
    """
    versions = {
        f"{name}_version": importlib.metadata.version(name)
        for name in ("jax", "jaxlib", "flax", "optax")
    }
    return {
        **host(),
        "backend": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **versions,
    }
