import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import measure_scaling, scaling
from experiments.benchmarks.scaling import Load, Network, Point
from tests.support import EXPERIMENTS

SCRIPT = Path(scaling.__file__)
TABLE = {1: 0.5, 2: 1.0, 4: 2.0, 8: 4.0}
"""Seconds of a step that are proportional to its batch."""


def test_a_ring_of_two_sends_every_array_once():
    assert scaling.sent_bytes(2, 1000) == 1000
    assert scaling.ring_seconds(2, Load(1, 1000), 0.25, 500.0) == 2 * 0.25 + 2.0
    assert scaling.ring_seconds(2, Load(3, 1000), 0.25, 500.0) == 3 * 2 * 0.25 + 2.0


def test_a_ring_of_many_sends_twice_the_bytes_and_waits_for_every_neighbour():
    assert scaling.ring_seconds(1, Load(5, 1000), 0.25, 500.0) == 0
    assert scaling.ring_seconds(4, Load(1, 1000), 0.0, 500.0) == 2 * 3 / 4 * 1000 / 500
    assert scaling.sent_bytes(4096, 1000) == pytest.approx(2000, rel=1e-3)
    assert scaling.ring_seconds(4096, Load(1, 0), 1e-6, 500.0) == pytest.approx(2 * 4095e-6)


def test_the_fit_finds_latency_and_bandwidth():
    sizes = [(devices, 4 * 8**i) for devices in (2, 4) for i in range(7)]
    exact = [(d, n, scaling.ring_seconds(d, Load(1, n), 3e-5, 2e9)) for d, n in sizes]
    assert scaling.fit_ring(exact) == pytest.approx((3e-5, 2e9))
    noisy = [(d, n, t * (1.1 if i % 2 else 0.9)) for i, (d, n, t) in enumerate(exact)]
    assert scaling.fit_ring(noisy) == pytest.approx((3e-5, 2e9), rel=0.15)


def test_the_fit_has_no_negative_part():
    latency, bandwidth = scaling.fit_ring([(2, 4, 2.0), (2, 4000, 1.0)])
    assert latency > 0
    assert bandwidth == math.inf
    latency, bandwidth = scaling.fit_ring([(2, 10, 1.0), (2, 1000, 200.0)])
    assert latency == 0
    assert 5 < bandwidth < 10
    with pytest.raises(ValueError, match="need two sizes"):
        scaling.fit_ring([(2, 4, 1.0), (4, 4, 2.0)])


def test_a_step_lies_between_the_measured_ones():
    assert scaling.interpolated({1: 1.0, 2: 4.0, 4: 6.0}, 2) == 4.0
    assert scaling.interpolated({1: 1.0, 2: 4.0, 4: 6.0}, 3) == 5.0
    for samples in (0, 9):
        with pytest.raises(ValueError, match=f"A batch of {samples} lies outside"):
            scaling.interpolated(TABLE, samples)


def test_without_communication_linear_compute_scales_perfectly():
    for devices in (1, 2, 4, 8):
        point = scaling.strong(devices, 8, TABLE, lambda _: 0.0)
        assert point == Point(devices, 8 // devices, 4.0 / devices, 0.0, 1.0)
    for devices in (1, 8, 4096):
        assert scaling.weak(devices, 8, TABLE, lambda _: 0.0) == Point(devices, 8, 4.0, 0.0, 1.0)


def test_efficiency_is_what_the_definitions_say():
    assert scaling.strong(3, 8, TABLE, lambda _: 0.0).samples == 3
    last = scaling.strong(16, 8, TABLE, lambda devices: devices / 10)
    assert (last.samples, last.seconds) == (1, 0.5 + 1.6)
    assert last.efficiency == pytest.approx(4.0 / (16 * 2.1))
    assert scaling.weak(4, 8, TABLE, lambda _: 1.0).efficiency == 4.0 / 5.0


def test_the_data_set_ends_weak_scaling():
    assert scaling.epoch_steps(1, 64) == 938
    assert scaling.epoch_steps(937, 64) == 2
    assert scaling.epoch_steps(938, 64) == scaling.epoch_steps(4096, 64) == 1
    assert scaling.epoch_steps(1875, 32) == 1


@pytest.mark.parametrize(
    ("latency", "bandwidth"),
    [(1e-5, 1e9), (1e-5, math.inf), (1e-3, 1e6), (0.0, 1.5e8), (1e-9, 1e5)],
)
def test_at_break_even_all_reduces_take_as_long_as_the_step(latency, bandwidth):
    load = Load(12, 1_000_000)
    devices = scaling.break_even(0.01, load, latency, bandwidth)
    assert devices > 1
    assert scaling.ring_seconds(devices, load, latency, bandwidth) == pytest.approx(0.01)


def test_without_latency_a_fast_network_never_breaks_even():
    assert scaling.break_even(1.0, Load(1, 1000), 0.0, 2000.0) == math.inf
    assert scaling.break_even(1.0, Load(1, 1000), 0.0, math.inf) == math.inf
    assert scaling.break_even(1.0, Load(1, 0), 0.05, 1e9) == pytest.approx(1 + 1.0 / (2 * 0.05))


def test_of_equal_steps_that_of_fewer_devices_is_the_fastest():
    points = [Point(d, 1, 1.0, 0.0, 1.0) for d in (4, 2, 8)] + [Point(1, 2, 3.0, 0.0, 1.0)]
    assert scaling.fastest(points).devices == 2


HLO = """
HloModule jit_step, num_partitions=2
%region (a: f32[], b: f32[]) -> f32[] {
  ROOT %add.1 = f32[] add(%a, %b)
}
ENTRY %main {
  %all-reduce.1 = s32[] all-reduce(%count), channel_id=1, to_apply=%region
  %all-reduce.2 = (f32[16]{0}, f32[3,3,1,16]{3,2,1,0:T(8,128)}, /*index=5*/bf16[10]{0}, pred[])\
 all-reduce(%x, %y, %z, %p), channel_id=2, to_apply=%region
  %start = f32[64,10]{1,0} all-reduce-start(%w), to_apply=%region
  %done = f32[64,10]{1,0} all-reduce-done(%start)
  %out = f32[16]{0} get-tuple-element(%all-reduce.2), index=0
}
"""


def test_the_all_reduces_of_a_program_are_read():
    found = measure_scaling.all_reduces(HLO)
    assert found == [
        [("s32", ())],
        [("f32", (16,)), ("f32", (3, 3, 1, 16)), ("bf16", (10,)), ("pred", ())],
        [("f32", (64, 10))],
    ]
    size = 4 + 4 * 16 + 4 * 144 + 2 * 10 + 1 + 4 * 640
    assert measure_scaling.summary_of(found) == {"instructions": 3, "arrays": 6, "bytes": size}
    assert measure_scaling.all_reduces("%x = f32[2]{0} add(%a, %b)") == []


def row(net, processes, **more):
    """Two rounds of one case, in which steps take a second a sample."""
    reports = []
    for times in (1.0, 3.0):
        seconds = {"seconds": times, "fastest": times / 2}
        counted = {"instructions": 2, "arrays": 12, "bytes": 4008}
        counted |= {"xla": {"instructions": 2, "arrays": 12, "bytes": 1008}}
        step = {**seconds, "reduce": seconds, **counted}
        sizes = more.get("batches") or more["floats"]
        reports.append({str(n): step if net else seconds for n in sizes} | {"params": 250})
    return {"net": net, "processes": processes, "reports": reports, **more}


def test_the_tables_show_medians_ranges_and_the_breaking_points():
    rows = [
        row("strided", 1, batches=[1, 2, 4, 8, 16, 32]),
        row(None, 2, floats=[1, 256]),
        row("strided", 2, batches=[32, 64]),
    ]
    text = "\n".join(scaling.measured_tables(rows))
    assert "| strided | 32 | 2,000 (1,000 to 3,000) | 62.500 |" in text
    assert "| strided | 2 | 64 | 1,000 | 2 | 12 | 4,008 | 2 | 12 | 1,008 | 4.01 |" in text
    assert "| 2 | 1,024 | 2,000 (1,000 to 3,000) | 500 |" in text
    with pytest.raises(ValueError, match="Each line needs 2 cells"):
        scaling.table("A table:", ["a", "b"], [["1"]])
    text = "\n".join(scaling.derived_tables(rows, ["strided"], devices=(8, 512)))
    assert "`strided`, strong scaling, 32 samples in all:" in text
    weak = text.partition("weak scaling")[2]
    (line,) = [line for line in weak.splitlines() if line.startswith("| 512 |")]
    assert line.startswith("| 512 | 16,384 | 4 | 8 | 2 | 2,000 | ")
    assert line.endswith("|  |"), "NVLink ends at 256"
    assert "| 1,875 |" in weak.partition("Where it breaks")[2]


def test_gpus_add_up_fewer_bytes_in_fewer_rings():
    case = row("strided", 2, batches=[32, 64])
    assert scaling.load_of(case, 32, grouped=False) == Load(12, 4008)
    assert scaling.load_of(case, 32, grouped=True) == Load(2, 1008)
    assert all(isinstance(network, Network) for network in scaling.NETWORKS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nets": ["lab5"]}, "Unknown net 'lab5'"),
        ({"processes": [2, 0]}, "processes must be a positive integer, not 0"),
        ({"processes": [17]}, "processes must be at most 16, not 17"),
        ({"processes": [1]}, "processes must name one number above 1"),
        ({"rounds": 0}, "rounds must be a positive integer, not 0"),
        ({"seconds": 0}, "seconds must be above 0 and below 3600, not 0"),
        ({"output": Path("x.png")}, "output must be a NAME.json, not 'x.png'"),
        ({"output": EXPERIMENTS / "results" / "accuracy.json"}, "is there already"),
    ],
)
def test_bad_input_measures_nothing(options, message, monkeypatch):
    monkeypatch.setattr(scaling, "run_processes", lambda *_: pytest.fail("it measures"))
    with pytest.raises((ValueError, FileExistsError), match=message):
        scaling.main(**options)


def test_rounds_take_turns_and_a_failure_is_kept(monkeypatch, tmp_path, capsys):
    asked = []

    def fake(processes, case, cache):
        asked.append((processes, case.get("net"), case.get("count", False)))
        return {"error": "no port"} if processes == 2 else {"environment": {}, "1": 0.1}

    monkeypatch.setattr(scaling, "run_processes", fake)
    rows = scaling.main(["dense"], [2], rounds=2, output=tmp_path / "new" / "x.json")
    first = [(1, "dense", False), (2, None, False), (2, "dense", True)]
    assert asked == [*first, first[0]]
    assert [row.get("error") for row in rows] == [None, "no port", "no port"]
    assert json.loads((tmp_path / "new" / "x.json").read_text())["rows"] == rows
    assert "round 1/2, all-reduce, 2 processes: no port" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_are_measured_and_more_derived(tmp_path):
    output = tmp_path / "x.json"
    command = [sys.executable, str(SCRIPT), "--nets", "strided", "--processes", "1", "2"]
    command += ["--rounds", "1", "--seconds", "0.1", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    alone, reduce, both = json.loads(output.read_text())["rows"]
    assert (alone["processes"], reduce["net"], both["processes"]) == (1, None, 2)
    assert both["batches"] == [32, 64]
    for size in ("32", "64"):
        report = both["reports"][0]
        # One gradient a parameter, the loss and the accuracy.
        assert report[size]["xla"]["bytes"] == 4 * report["params"] + 8
        assert report[size]["bytes"] >= report[size]["xla"]["bytes"]
        assert 0 < report[size]["reduce"]["fastest"] <= report[size]["reduce"]["seconds"]
    assert alone["reports"][0]["32"]["instructions"] == 0
    assert "| 4,096 | 131,072 | 1 | " in done.stdout
    assert "Where it breaks:" in done.stdout


@pytest.mark.slow
def test_the_reason_of_a_failed_process_is_kept(tmp_path):
    case = {"net": "lab5", "batches": [2], "seconds": 0.1}
    assert scaling.run_processes(1, case, str(tmp_path)) == {"error": "KeyError: 'lab5'"}
