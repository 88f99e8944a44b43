"""Markdown tables of what `scaling.py` measures, and of what it derives for more devices."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.benchmarks.recipes import NOTEBOOKS
from experiments.benchmarks.scaling_model import (
    DEVICES,
    NETWORKS,
    SAMPLES,
    Load,
    Network,
    Point,
    break_even,
    epoch_steps,
    fastest,
    fit_ring,
    interpolated,
    ring_seconds,
    sent_bytes,
    strong,
    weak,
)

Rows = Sequence[Mapping[str, Any]]
FASTER = 100.0
"""How many times faster the last column of the last table assumes a device to be."""


def values(row: Mapping[str, Any], *keys: object) -> list[Any]:
    """The value under these keys in the report of each round."""
    found = row["reports"]
    for key in keys:
        found = [value[str(key)] for value in found]
    return found


def chosen(rows: Sequence[Mapping[str, Any]], net: str | None, processes: int) -> Mapping[str, Any]:
    """The row of a net, or with None of all-reduces by size, and a number of processes."""
    return next(row for row in rows if (row["net"], row["processes"]) == (net, processes))


def step_table(row: Mapping[str, Any]) -> dict[int, float]:
    """Seconds of one device's step by its batch size."""
    return {size: statistics.median(values(row, size, "seconds")) for size in row["batches"]}


def ring_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Latency and bandwidth of the all-reduces of a row, fitted to the fastest calls.

    The others waited for a core; devices with cores of their own do not wait.
    """
    fastest = {4 * size: min(values(row, size, "fastest")) for size in row["floats"]}
    return fit_ring([(row["processes"], size, seconds) for size, seconds in fastest.items()])


def load_of(row: Mapping[str, Any], batch: int, grouped: bool) -> Load:
    """The all-reduces of a row's step, as this CPU does them or as a GPU's program does."""
    counted = row["reports"][0][str(batch)]
    counted = counted["xla"] if grouped else counted
    return Load(counted["instructions" if grouped else "arrays"], counted["bytes"])


def table(title: str, heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A Markdown table under its title.

    Raises:
      ValueError: if a line has not as many cells as there are heads.
    """
    if any(len(line) != len(heads) for line in lines):
        raise ValueError(f"{title} Each line needs {len(heads)} cells.")
    body = [f"| {' | '.join(map(str, line))} |" for line in lines]
    return "\n".join([title, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *body])


def ms(seconds: float) -> str:
    """Milliseconds to three digits; from 100 on without decimals."""
    value = 1e3 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ranged(samples: Sequence[float]) -> str:
    """The median in milliseconds, with the range."""
    return f"{ms(statistics.median(samples))} ({ms(min(samples))} to {ms(max(samples))})"


def measured_tables(rows: Rows) -> list[str]:
    """The tables of the measurements, beside the predictions of the ring's model."""
    several = [row for row in rows if row["processes"] > 1]
    reduces = [row for row in several if not row["net"]]
    return [
        _alone_table([row for row in rows if row["net"] and row["processes"] == 1]),
        _reduce_table(reduces),
        _fit_table(reduces),
        _program_table(several),
        _shared_table(rows, [row for row in several if row["net"]]),
    ]


def _alone_table(rows: Rows) -> str:
    lines = [
        [row["net"], size, ranged(values(row, size, "seconds")), f"{1e3 * seconds / size:.3f}"]
        for row in rows
        for size, seconds in step_table(row).items()
    ]
    return table("One process, one device:", ["net", "batch", "ms a step", "ms a sample"], lines)


def _reduce_table(rows: Rows) -> str:
    lines = []
    for row in rows:
        ring = ring_of(row)
        for size in row["floats"]:
            model = ring_seconds(row["processes"], Load(1, 4 * size), *ring)
            fastest = min(values(row, size, "fastest"))
            line = [row["processes"], f"{4 * size:,}", ranged(values(row, size, "seconds"))]
            lines.append([*line, ms(fastest), ms(model)])
    heads = ["processes", "bytes", "ms", "fastest call, ms", "the fit's ms"]
    return table("One all-reduce, over loopback:", heads, lines)


def _fit_table(rows: Rows) -> str:
    lines = [
        [row["processes"], f"{1e6 * latency:.0f}", f"{1e-9 * bandwidth:.2f}"]
        for row, (latency, bandwidth) in ((row, ring_of(row)) for row in rows)
    ]
    return table("The ring's fit:", ["processes", "latency, µs", "bandwidth, GB/s"], lines)


def _program_table(rows: Rows) -> str:
    lines = []
    for row in rows:
        for size in row.get("batches", ()):
            first = row["reports"][0]
            form, xla = first[str(size)], first[str(size)]["xla"]
            cells = [row["net"], row["processes"], size, f"{4 * first['params']:,}"]
            for counted in (form, xla):
                cells += [counted["instructions"], counted["arrays"], f"{counted['bytes']:,}"]
            lines.append([*cells, f"{form['bytes'] / (4 * first['params']):.2f}"])
    heads = ["net", "processes", "global batch", "4 × params", "all-reduces, CPU's form", "arrays"]
    heads += ["bytes", "all-reduces, XLA's form", "arrays", "bytes", "CPU's ÷ 4 × params"]
    return table("All-reduces in the compiled step:", heads, lines)


def _shared_table(rows: Rows, several: Rows) -> str:
    lines = []
    for row in several:
        number, base = row["processes"], step_table(chosen(rows, row["net"], 1))
        ring = ring_of(chosen(rows, None, number))
        own = NOTEBOOKS[row["net"]].batch_size
        for kind, size, samples in zip(
            ("strong", "weak"), row["batches"], (math.ceil(own / number), own), strict=True
        ):
            compute = number * interpolated(base, samples)
            model = ring_seconds(number, load_of(row, size, False), *ring)
            took = values(row, size, "seconds")
            cells = [row["net"], number, kind, size, ranged(took)]
            cells += [ms(min(values(row, size, "fastest")))]
            cells += [ranged(values(row, size, "reduce", "seconds"))]
            cells += [ms(min(values(row, size, "reduce", "fastest"))), ms(model), ms(compute)]
            cells += [ms(compute + model)]
            lines.append([*cells, f"{statistics.median(took) / (compute + model):.2f}"])
    heads = ["net", "processes", "scaling", "global batch", "ms a step", "fastest"]
    heads += ["its all-reduces alone, ms", "fastest", "the fit's ms"]
    heads += ["computing on shared cores, ms", "both, ms", "measured ÷ both"]
    return table("Several processes on the cores of one:", heads, lines)


def derived_tables(rows: Rows, nets: Sequence[str], devices: Sequence[int] = DEVICES) -> list[str]:
    """The tables of more devices than there are, and of the point where each scaling breaks."""
    number = min(row["processes"] for row in rows if row["processes"] > 1)
    loopback = Network("loopback (measured)", *ring_of(chosen(rows, None, number)))
    networks, found, ends = (loopback, *NETWORKS), [], []
    for net in nets:
        base, row = step_table(chosen(rows, net, 1)), chosen(rows, net, number)
        loads = {
            kind: [load_of(row, size, network.grouped) for network in networks]
            for kind, size in zip(("strong", "weak"), row["batches"], strict=True)
        }
        for kind in ("strong", "weak"):
            found.append(_derived_table(net, kind, base, networks, loads[kind], devices))
        for network, *both in zip(networks, *loads.values(), strict=True):
            ends.append([net, network.name, *_limits(net, base, network, *both)])
    heads = ["net", "network", "strong: fastest at D (speed-up)", "all-reduce ≥ compute from D"]
    heads += ["weak: all-reduce = compute (efficiency 50%) at D"]
    heads += [f"with a device {FASTER:g} times faster", "one step an epoch from D"]
    return [*found, table("Where it breaks:", heads, ends)]


def _derived_table(
    net: str,
    kind: str,
    base: Mapping[int, float],
    networks: Sequence[Network],
    loads: Sequence[Load],
    devices: Sequence[int],
) -> str:
    """The steps of one kind of scaling, by the number of devices."""
    batch, scaled, lines = NOTEBOOKS[net].batch_size, strong if kind == "strong" else weak, []
    for count in (1, *devices):
        cells, sent = [], [sent_bytes(count, load.bytes) for load in loads]
        for network, load in zip(networks, loads, strict=True):
            point = scaled(count, batch, base, _reduce(load, network))
            cells.append(_cell(point) if count <= network.max_devices else "")
        point = scaled(count, batch, base, lambda _: 0.0)
        moved = [f"{1e-3 * sent[0]:,.0f}", f"{1e-3 * sent[-1]:,.0f}"]
        head = [f"{count:,}", point.samples]
        if kind == "weak":
            head = [f"{count:,}", f"{count * batch:,}", epoch_steps(count, batch)]
        lines.append([*head, *moved, ms(point.compute), *cells])
    heads = ["devices", "samples a device"]
    if kind == "weak":
        heads = ["devices", "global batch", "steps an epoch"]
    heads += ["kB sent by each, CPU's form", "XLA's form", "ms computing"]
    heads += [f"{network.name}: ms a step (efficiency)" for network in networks]
    samples = "in all" if kind == "strong" else "a device"
    return table(f"`{net}`, {kind} scaling, {batch} samples {samples}:", heads, lines)


def _limits(
    net: str, base: Mapping[int, float], network: Network, strong_load: Load, weak_load: Load
) -> list[str]:
    """Where both kinds of scaling break on a network: the cells of the last table."""
    batch, reduce = NOTEBOOKS[net].batch_size, _reduce(strong_load, network)
    counts = range(1, network.max_devices + 1)
    points = [strong(count, batch, base, reduce) for count in counts]
    over = next((p.devices for p in points[1:] if p.reduce >= p.compute), None)
    best = fastest(points)
    ring = network.latency, network.bandwidth
    even = [break_even(base[batch] / by, weak_load, *ring) for by in (1.0, FASTER)]
    above = f"above {network.max_devices:,}"
    return [
        f"{best.devices:,} ({points[0].seconds / best.seconds:.1f})",
        f"{over:,}" if over else above,
        *(f"{x:,.1f}" if x <= network.max_devices else above for x in even),
        f"{math.ceil(SAMPLES / batch):,}",
    ]


def _reduce(load: Load, network: Network) -> Callable[[int], float]:
    return lambda devices: ring_seconds(devices, load, network.latency, network.bandwidth)


def _cell(point: Point) -> str:
    share = 100 * point.efficiency
    return f"{ms(point.seconds)} ({f'{share:.1f}' if share >= 0.1 else '<0.1'}%)"
