"""How far data parallelism goes: measured on 1, 2 and 4 processes, derived for 8 to 4,096 devices.

    python experiments/benchmarks/scaling.py
    python experiments/benchmarks/scaling.py --nets strided --processes 2 --rounds 1 --seconds 0.1

Measured, in rounds over all cases, each one as fresh processes under `jaxconv.parallel.launch`, on CPU with
one device a process:

- one process' train step by its batch size: what a device of many has to do;
- the step of several processes, the notebook's batch divided among them (strong scaling) or given
  to each of them (weak scaling), and the step's all-reduces alone;
- an all-reduce by size, fitted by the ring's latency and bandwidth (`fit_ring`);
- the all-reduces in the compiled step, of this backend's form of the convolutions and of XLA's own.

Derived from that: step time, bytes and efficiency of more devices (`strong`, `weak`), over this
host's loopback as measured and over networks as their vendors publish them (`NETWORKS`), and where
communication takes as long as computation (`break_even`). The device is this CPU in all of them.

Figures are medians over the rounds. Written to experiments/results/, or where --output says; what
they say stands in experiments/results/scaling.md.
"""

import argparse
import datetime
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.keras_nets import NOTEBOOKS
from experiments.benchmarks.subprocess_runner import RESULTS, reason, run_launched, variables
from jaxconv._checks import check_choice, check_positive
from jaxconv.runs.files import write_json

DEVICES = tuple(2**i for i in range(3, 13))
SAMPLES = 60_000
FLOATS = (1, 256, 4096, 16_384, 65_536, 262_144, 1_048_576)
MAX_PROCESSES = 16
TIMEOUT = 1800.0
FASTER = 100.0
"""How many times faster a device is assumed to be in the last column of the last table."""


class Network(NamedTuple):
    """What joins the devices: seconds a message from neighbour to neighbour, and bytes/s one way.

    `grouped`: whether the arrays of one all-reduce go around the ring together, and the program is
    a GPU's, with one gradient a parameter. On CPU each array goes by itself.
    """

    name: str
    latency: float
    bandwidth: float
    grouped: bool = False
    most: int = DEVICES[-1]
    """The most devices that it joins."""


NETWORKS = (
    # Bandwidths are the published line rates, one way; latencies are assumptions: a message through
    # the kernel's TCP, through RDMA, and between kernels of two GPUs.
    Network("10 GbE", 30e-6, 10e9 / 8),  # IEEE 802.3ae
    Network("InfiniBand NDR", 5e-6, 400e9 / 8, grouped=True),  # NVIDIA ConnectX-7: 400 Gb/s
    # NVIDIA H100: 900 GB/s both ways together; the NVLink Switch System joins up to 256.
    Network("NVLink 4", 2e-6, 900e9 / 2, grouped=True, most=256),
)


class Load(NamedTuple):
    """What a step adds up: so many rings, one after the other, of so many bytes in all."""

    messages: int
    bytes: int


class Point(NamedTuple):
    """A step on so many devices: samples and seconds of one device, seconds of the all-reduces."""

    devices: int
    samples: int
    compute: float
    reduce: float
    efficiency: float

    @property
    def seconds(self) -> float:
        """Of the step: computing and adding up, one after the other."""
        return self.compute + self.reduce


def ring_seconds(devices: int, load: Load, latency: float, bandwidth: float) -> float:
    """Seconds of ring all-reduces, `messages * 2(D-1) latency + 2(D-1)/D bytes / bandwidth`.

    Args:
      devices: D, how many are in the ring; one alone has nothing to add up.
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

    Relative, as a fit of the seconds would see the largest arrays alone. Neither is negative: if
    noise makes one so, it is left out (an infinite bandwidth, no latency).

    Args:
      points: devices, bytes and seconds of single all-reduces; two sizes at least.
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
    """Seconds of a step on one device at a local batch, linear between the measured ones."""
    sizes = sorted(table)
    if not sizes[0] <= samples <= sizes[-1]:
        raise ValueError(f"A batch of {samples} lies outside of the measured {sizes}.")
    return float(np.interp(samples, sizes, [table[size] for size in sizes]))


def strong(
    devices: int, batch: int, table: Mapping[int, float], reduce: Callable[[int], float]
) -> Point:
    """A step that divides the same global batch: `t(D) = compute(ceil(B/D)) + reduce(D)`.

    Efficiency is `t(1) / (D t(D))`: what the D devices were needed for, of what they are.

    Args:
      devices: D. From D = B on each one has one sample at most.
      batch: B, of all devices together.
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

    Efficiency is `t(1) / t(D)`. Arguments as of `strong`, but B is the batch of each device.
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
    latency a, n bytes, bandwidth b and t seconds; without the bytes it is about `t / (2 m a)`.
    Infinite where they never do.
    """
    a, c = 2 * load.messages * latency, 2 * load.bytes / bandwidth
    b = c - a - compute
    if not a:
        return c / b if b > 0 else math.inf
    root = math.sqrt(b * b + 4 * a * c)
    return (root - b) / (2 * a) if b < 0 else 2 * c / (root + b)


def fastest(points: Sequence[Point]) -> Point:
    """The one whose step is shortest, of equals the one with the fewest devices."""
    return min(points, key=lambda point: (point.seconds, point.devices))


def run_processes(
    processes: int, case: Mapping[str, Any], cache: str, timeout: float = TIMEOUT
) -> dict[str, Any]:
    """What `measure_scaling.py` finds out on so many processes, or `{"error": why nothing}`."""
    own = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}
    own |= {"JAX_TRACEBACK_FILTERING": "off"}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "report.json")
        given = [json.dumps(case), str(output)]
        try:
            code, said = run_launched(processes, 1, "measure_scaling.py", given, own, timeout)
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {timeout:g} s"}
        if code:
            lines = [line.partition("] ")[2] or line for line in said.splitlines()]
            return {"error": reason("\n".join(lines)) or f"exit code {code}"}
        return json.loads(output.read_text())


def cases(nets: Sequence[str], processes: Sequence[int]) -> list[dict[str, Any]]:
    """What is measured in each round, in this order."""
    found: list[dict[str, Any]] = []
    for number in processes:
        if number > 1:
            found.append({"case": f"all-reduce, {number} processes", "net": None})
            found[-1] |= {"processes": number, "floats": list(FLOATS)}
        for net in nets:
            size = NOTEBOOKS[net].batch_size
            sizes = [size, size * number]
            if number == 1:
                sizes = sorted({2**i for i in range(size.bit_length())} | {size, 2 * size})
            name = f"{net}, {number} process{'es' if number > 1 else ''}"
            found.append({"case": name, "net": net, "processes": number, "batches": sizes})
    return [case | {"reports": []} for case in found]


def values(row: Mapping[str, Any], *keys: object) -> list[Any]:
    """What stands under these keys in the report of each round."""
    found = row["reports"]
    for key in keys:
        found = [value[str(key)] for value in found]
    return found


def chosen(rows: Sequence[Mapping[str, Any]], net: str | None, processes: int) -> Mapping[str, Any]:
    """The row of a net (all-reduces by size: None) and a number of processes."""
    return next(row for row in rows if (row["net"], row["processes"]) == (net, processes))


def step_table(row: Mapping[str, Any]) -> dict[int, float]:
    """Seconds of one device's step by its batch size."""
    return {size: statistics.median(values(row, size, "seconds")) for size in row["batches"]}


def ring_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Latency and bandwidth of the all-reduces of a row, fitted to the fastest calls.

    The others waited for a core, which devices that have their own do not.
    """
    fastest = {4 * size: min(values(row, size, "fastest")) for size in row["floats"]}
    return fit_ring([(row["processes"], size, seconds) for size, seconds in fastest.items()])


def load_of(row: Mapping[str, Any], batch: int, grouped: bool) -> Load:
    """What a step of a row adds up: as this CPU does, or in a GPU's program."""
    counted = row["reports"][0][str(batch)]
    counted = counted["xla"] if grouped else counted
    return Load(counted["instructions" if grouped else "arrays"], counted["bytes"])


def table(title: str, heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A Markdown table under its title."""
    if any(len(line) != len(heads) for line in lines):
        raise ValueError(f"{title} Each line needs {len(heads)} cells.")
    body = [f"| {' | '.join(map(str, line))} |" for line in lines]
    return "\n".join([title, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *body])


def ms(seconds: float) -> str:
    """Milliseconds to three digits, none behind the point where they are many."""
    value = 1e3 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ranged(samples: Sequence[float]) -> str:
    """The median in milliseconds, with the range."""
    return f"{ms(statistics.median(samples))} ({ms(min(samples))} to {ms(max(samples))})"


def measured_tables(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tables of what was measured, beside what the ring's model says of it."""
    several = [row for row in rows if row["processes"] > 1]
    steps, reduces = [row for row in rows if row["net"]], [r for r in several if not r["net"]]
    alone = [row for row in steps if row["processes"] == 1]
    lines = [
        [row["net"], size, ranged(values(row, size, "seconds")), f"{1e3 * seconds / size:.3f}"]
        for row in alone
        for size, seconds in step_table(row).items()
    ]
    heads = ["net", "batch", "ms a step", "ms a sample"]
    found = [table("One process, one device:", heads, lines)]

    lines = []
    for row in reduces:
        ring = ring_of(row)
        for size in row["floats"]:
            model = ring_seconds(row["processes"], Load(1, 4 * size), *ring)
            fastest = min(values(row, size, "fastest"))
            line = [row["processes"], f"{4 * size:,}", ranged(values(row, size, "seconds"))]
            lines.append([*line, ms(fastest), ms(model)])
    heads = ["processes", "bytes", "ms", "fastest call, ms", "the fit's ms"]
    found.append(table("One all-reduce, over loopback:", heads, lines))
    lines = [
        [row["processes"], f"{1e6 * latency:.0f}", f"{1e-9 * bandwidth:.2f}"]
        for row, (latency, bandwidth) in ((row, ring_of(row)) for row in reduces)
    ]
    heads = ["processes", "latency, µs", "bandwidth, GB/s"]
    found.append(table("The ring's fit:", heads, lines))

    lines = []
    for row in several:
        for size in row.get("batches", ()):
            first = row["reports"][0]
            form, xla = first[str(size)], first[str(size)]["xla"]
            cells = [row["net"], row["processes"], size, f"{4 * first['params']:,}"]
            for counted in (form, xla):
                cells += [counted["instructions"], counted["arrays"], f"{counted['bytes']:,}"]
            lines.append([*cells, f"{form['bytes'] / (4 * first['params']):.2f}"])
    heads = ["net", "processes", "global batch", "4 × params", "all-reduces, CPU's form", "arrays"]
    heads += ["bytes", "all-reduces, XLA's form", "arrays", "bytes", "CPU's ÷ 4 × params"]
    found.append(table("All-reduces in the compiled step:", heads, lines))

    lines = []
    for row in several:
        if not row["net"]:
            continue
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
    found.append(table("Several processes on the cores of one:", heads, lines))
    return found


def derived_tables(
    rows: Sequence[Mapping[str, Any]], nets: Sequence[str], devices: Sequence[int] = DEVICES
) -> list[str]:
    """The tables of more devices than there are, and of where each kind of scaling breaks."""
    number = min(row["processes"] for row in rows if row["processes"] > 1)
    loopback = Network("loopback (measured)", *ring_of(chosen(rows, None, number)))
    networks, found, ends = (loopback, *NETWORKS), [], []
    for net in nets:
        base, batch = step_table(chosen(rows, net, 1)), NOTEBOOKS[net].batch_size
        row, lines = chosen(rows, net, number), {"strong": [], "weak": []}
        loads = {
            kind: [load_of(row, size, network.grouped) for network in networks]
            for kind, size in zip(lines, row["batches"], strict=True)
        }
        for count in (1, *devices):
            for kind, scaled in (("strong", strong), ("weak", weak)):
                cells, sent = [], [sent_bytes(count, load.bytes) for load in loads[kind]]
                for network, load in zip(networks, loads[kind], strict=True):
                    point = scaled(count, batch, base, _reduce(load, network))
                    fits = count <= network.most
                    cells.append(_cell(point) if fits else "")
                point = scaled(count, batch, base, lambda _: 0.0)
                moved = [f"{1e-3 * sent[0]:,.0f}", f"{1e-3 * sent[-1]:,.0f}"]
                head = [f"{count:,}", point.samples]
                if kind == "weak":
                    head = [f"{count:,}", f"{count * batch:,}", epoch_steps(count, batch)]
                lines[kind].append([*head, *moved, ms(point.compute), *cells])
        names = [f"{network.name}: ms a step (efficiency)" for network in networks]
        sent = ["kB sent by each, CPU's form", "XLA's form", "ms computing"]
        title = f"`{net}`, strong scaling, {batch} samples in all:"
        heads = ["devices", "samples a device", *sent, *names]
        found.append(table(title, heads, lines["strong"]))
        title = f"`{net}`, weak scaling, {batch} samples a device:"
        heads = ["devices", "global batch", "steps an epoch", *sent, *names]
        found.append(table(title, heads, lines["weak"]))
        one = math.ceil(SAMPLES / batch)
        for i, network in enumerate(networks):
            reduce = _reduce(loads["strong"][i], network)
            counts = range(1, network.most + 1)
            points = [strong(count, batch, base, reduce) for count in counts]
            over = next((p.devices for p in points[1:] if p.reduce >= p.compute), None)
            best = fastest(points)
            load, ring = loads["weak"][i], (network.latency, network.bandwidth)
            even = [break_even(base[batch] / by, load, *ring) for by in (1.0, FASTER)]
            speed_up = points[0].seconds / best.seconds
            ends.append([net, network.name, f"{best.devices:,} ({speed_up:.1f})"])
            ends[-1] += [f"{over:,}" if over else f"above {network.most:,}"]
            above = f"above {network.most:,}"
            ends[-1] += [f"{x:,.1f}" if x <= network.most else above for x in even]
            ends[-1].append(f"{one:,}")
    heads = ["net", "network", "strong: fastest at D (speed-up)", "all-reduce ≥ compute from D"]
    heads += ["weak: all-reduce = compute (efficiency 50%) at D"]
    heads += [f"with a device {FASTER:g} times faster", "one step an epoch from D"]
    return [*found, table("Where it breaks:", heads, ends)]


def _reduce(load: Load, network: Network) -> Callable[[int], float]:
    return lambda devices: ring_seconds(devices, load, network.latency, network.bandwidth)


def _cell(point: Point) -> str:
    share = 100 * point.efficiency
    return f"{ms(point.seconds)} ({f'{share:.1f}' if share >= 0.1 else '<0.1'}%)"


def main(
    nets: Sequence[str] = ("strided", "lab6"),
    processes: Sequence[int] = (1, 2, 4),
    rounds: int = 3,
    seconds: float = 2.0,
    output: Path | None = None,
) -> list[dict[str, Any]]:
    for net in nets:
        check_choice("net", net, NOTEBOOKS)
    for number in processes:
        check_positive("processes", number)
        if number > MAX_PROCESSES:
            raise ValueError(f"processes must be at most {MAX_PROCESSES}, not {number}.")
    if max(processes) == 1:
        raise ValueError("processes must name one number above 1: one alone adds nothing up.")
    check_positive("rounds", rounds)
    if not 0 < seconds < 3600:
        raise ValueError(f"seconds must be above 0 and below 3600, not {seconds}.")
    now = datetime.datetime.now(datetime.UTC)
    output = output or RESULTS / f"scaling-{now:%Y%m%dT%H%M%S}.json"
    if output.suffix != ".json":
        raise ValueError(f"output must be a NAME.json, not {str(output)!r}.")
    if output.exists():
        raise FileExistsError(f"{output} is there already: name another --output.")
    output.parent.mkdir(parents=True, exist_ok=True)
    nets = list(dict.fromkeys(nets))
    rows = cases(nets, sorted({1, *processes}))  # one alone is what the others are compared with
    content: dict[str, Any] = {"benchmark": "scaling", "date": f"{now:%Y-%m-%d}"}
    content |= {"rounds": rounds, "seconds": seconds, "variables": variables(), "environment": {}}
    content["rows"] = rows
    with tempfile.TemporaryDirectory() as cache:
        for number in range(rounds):
            for row in rows:
                if "error" in row:
                    continue
                case = {name: row[name] for name in ("net", "batches", "floats") if row.get(name)}
                case |= {"seconds": seconds}
                if number == 0 and row["net"] and row["processes"] > 1:
                    case["count"] = True
                report = run_processes(row["processes"], case, cache)
                if "error" in report:
                    row["error"] = report["error"]
                else:
                    content["environment"] = report.pop("environment")
                    row["reports"].append(report)
                said = row.get("error", "measured")
                print(f"round {number + 1}/{rounds}, {row['case']}: {said}", flush=True)
                write_json(output, content)
    if not any("error" in row for row in rows):
        facts = content["environment"]
        about = f"{facts['cpu']}, {facts['cpu_count']} cores, jax {facts['jax_version']}"
        found = [*measured_tables(rows), *derived_tables(rows, nets)]
        print("\n\n".join([f"\n{content['date']}, {about}", *found]))
    print(f"\nResults: {output}")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=NOTEBOOKS, default=["strided", "lab6"])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4], help="(1 2 4)")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes a case (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each figure (2)")
    parser.add_argument("--output", type=Path, help="the JSON file to write")
    try:
        rows = main(**vars(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    sys.exit(any("error" in row for row in rows))
