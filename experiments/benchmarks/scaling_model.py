"""The model of data parallelism: computing, then ring all-reduces, on any number of devices."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

DEVICES = tuple(2**i for i in range(3, 13))
"""The numbers of devices to derive."""
SAMPLES = 60_000
"""Training samples of MNIST."""


class Network(NamedTuple):
    """A network that joins the devices."""

    name: str
    latency: float
    """Seconds a message from neighbour to neighbour."""
    bandwidth: float
    """Bytes/s, one way."""
    grouped: bool = False
    """Whether the arrays of one all-reduce go around the ring together, in a GPU's program with one
    gradient a parameter. On CPU each array goes by itself."""
    max_devices: int = DEVICES[-1]


NETWORKS = (
    # Bandwidths are the published line rates, one way; latencies are assumptions: a message through
    # the kernel's TCP, through RDMA, and between kernels of two GPUs.
    Network("10 GbE", 30e-6, 10e9 / 8),  # IEEE 802.3ae
    Network("InfiniBand NDR", 5e-6, 400e9 / 8, grouped=True),  # NVIDIA ConnectX-7: 400 Gb/s
    # NVIDIA H100: 900 GB/s both ways together; the NVLink Switch System joins up to 256.
    Network("NVLink 4", 2e-6, 900e9 / 2, grouped=True, max_devices=256),
)


class Load(NamedTuple):
    """The all-reduces of a step."""

    messages: int
    """Rings, one after the other."""
    bytes: int
    """Bytes of all of them."""


class Point(NamedTuple):
    """A step on some devices."""

    devices: int
    samples: int
    """Those of one device."""
    compute: float
    """Seconds that one device computes."""
    reduce: float
    """Seconds of the all-reduces."""
    efficiency: float

    @property
    def seconds(self) -> float:
        """Seconds of the step: computing, then the all-reduces."""
        return self.compute + self.reduce


def ring_seconds(devices: int, load: Load, latency: float, bandwidth: float) -> float:
    """Seconds of ring all-reduces, `messages * 2(D-1) latency + 2(D-1)/D bytes / bandwidth`.

    Args:
      devices: D, the devices in the ring; one alone has nothing to add up.
      load: how many all-reduces, and their bytes.
      latency: seconds a message from neighbour to neighbour.
      bandwidth: bytes/s that a device sends, while it receives as many.
    """
    steps = 2 * (devices - 1)
    return load.messages * steps * latency + sent_bytes(devices, load.bytes) / bandwidth


def sent_bytes(devices: int, array_bytes: int) -> float:
    """Bytes that each device of a ring sends (and receives) to add up, `2(D-1)/D bytes`."""
    return 2 * (devices - 1) / devices * array_bytes


def fit_ring(points: Sequence[tuple[int, int, float]]) -> tuple[float, float]:
    """Latency (s) and bandwidth (bytes/s) of the ring, by least squares of the relative errors.

    The errors are relative, as a fit of the seconds would depend on the largest arrays alone.
    Neither result is negative: if noise makes one so, the fit leaves it out (an infinite bandwidth,
    no latency).

    Args:
      points: devices, bytes and seconds of single all-reduces, of at least two sizes.

    Raises:
      ValueError: if there are not two sizes.
    """
    if len({size for _, size, _ in points}) < 2:
        raise ValueError(f"A latency and a bandwidth need two sizes, not {list(points)}.")
    one = [[2 * (d - 1) / s, 2 * (d - 1) / d * size / s] for d, size, s in points]
    rows, ones = np.array(one), np.ones(len(points))
    found = np.linalg.lstsq(rows, ones, rcond=None)[0]
    if min(found) < 0:
        kept = int(np.argmax(found > 0))
        found = np.zeros(2)
        found[kept] = rows[:, kept].sum() / (rows[:, kept] ** 2).sum()
    latency, inverse = map(float, found)
    return latency, 1 / inverse if inverse else math.inf


def interpolated(table: Mapping[int, float], samples: int) -> float:
    """Seconds of one device's step at a batch size, linear between the measured ones."""
    sizes = sorted(table)
    if not sizes[0] <= samples <= sizes[-1]:
        raise ValueError(f"A batch of {samples} lies outside of the measured {sizes}.")
    return float(np.interp(samples, sizes, [table[size] for size in sizes]))


def strong(
    devices: int, batch: int, table: Mapping[int, float], reduce: Callable[[int], float]
) -> Point:
    """A step that divides the same global batch: `t(D) = compute(ceil(B/D)) + reduce(D)`.

    Efficiency is `t(1) / (D t(D))`: the share of the D devices' time that one device would need.

    Args:
      devices: D. From D = B on each device has one sample at most.
      batch: B, the samples of all devices together.
      table: seconds of one device's step by its batch size.
      reduce: seconds of the step's all-reduces by the number of devices.
    """
    samples = math.ceil(batch / devices)
    compute, alone = interpolated(table, samples), interpolated(table, batch)
    efficiency = alone / (devices * (compute + reduce(devices)))
    return Point(devices, samples, compute, reduce(devices), efficiency)


def weak(
    devices: int, batch: int, table: Mapping[int, float], reduce: Callable[[int], float]
) -> Point:
    """A step with the same batch on each device: `t(D) = compute(B) + reduce(D)`.

    Efficiency is `t(1) / t(D)`. The arguments are those of `strong`, but B is the batch of each
    device.
    """
    compute = interpolated(table, batch)
    efficiency = compute / (compute + reduce(devices))
    return Point(devices, batch, compute, reduce(devices), efficiency)


def epoch_steps(devices: int, batch: int, samples: int = SAMPLES) -> int:
    """Steps an epoch under weak scaling, `ceil(samples / (B D))`."""
    return math.ceil(samples / (batch * devices))


def break_even(compute: float, load: Load, latency: float, bandwidth: float) -> float:
    """The number of devices at which all-reduces take as long as `compute` seconds.

    The positive root D of `2 m a D^2 + (2 n/b - 2 m a - t) D - 2 n/b = 0`, with m messages of
    latency a, n bytes, bandwidth b and t seconds; without the bytes it is about `t / (2 m a)`. It
    is infinite if they never take as long.
    """
    a, c = 2 * load.messages * latency, 2 * load.bytes / bandwidth
    b = c - a - compute
    if not a:
        return c / b if b > 0 else math.inf
    root = math.sqrt(b * b + 4 * a * c)
    return (root - b) / (2 * a) if b < 0 else 2 * c / (root + b)


def fastest(points: Sequence[Point]) -> Point:
    """The point with the shortest step; among equals, the one with the fewest devices."""
    return min(points, key=lambda point: (point.seconds, point.devices))
