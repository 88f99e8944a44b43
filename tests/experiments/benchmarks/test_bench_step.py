import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments.benchmarks import bench_step, measure_step
from tests.support import EXPERIMENTS

SCRIPT = Path(bench_step.__file__)


@pytest.mark.parametrize(
    "driver", ["step", "loop", *(pytest.param(x, marks=pytest.mark.slow) for x in ("map", "vmap"))]
)
def test_a_case_is_measured_in_full(driver, monkeypatch):
    monkeypatch.setattr(measure_step, "matmul_rate", lambda dtype, size: 1e12)
    monkeypatch.setattr(
        measure_step,
        "steady_state",
        lambda run, **options: timed(run, warm_up_seconds=0.0, **options),
    )
    replicas = 2 if "map" in driver else 1
    measure = functools.partial(measure_step.measure, "dense", 128, "float32", driver, None)
    report = measure(replicas, seconds=0.01)
    flops = 2 * 128 * (3 * (784 * 512 + 512 * 10) - 784 * 512)
    assert report["nominal_flops"] == flops
    if driver == "step":
        assert report["xla_flops"] == pytest.approx(flops, rel=0.1)
    else:
        assert report["xla_flops"] is None
    assert report["images_per_second"] == pytest.approx(128 / report["step_seconds"])
    assert report["flops_per_second"] == pytest.approx(flops / report["step_seconds"])
    assert report["matmul_share"] == pytest.approx(report["flops_per_second"] / 1e12)
    assert report["form"] == ("patches" if jax.default_backend() == "cpu" else "xla")
    assert report["samples"] >= 10
    stages = ("trace", "lower", "compile", "first_call", "step")
    assert all(report[f"{stage}_seconds"] > 0 for stage in stages)
    assert report["step_seconds_p95"] >= report["step_seconds"]
    assert report["environment"]["jax_version"] == jax.__version__
    assert report["peak_rss_bytes"] > report["program_bytes"] > 0
    again = measure(replicas, seconds=0.01)
    assert again["from_cache"]
    json.dumps(again)


timed = measure_step.steady_state


def report_of(seconds: float, **more) -> dict:
    return {
        "trace_seconds": 0.1,
        "lower_seconds": 0.2,
        "compile_seconds": seconds * 100,
        "from_cache": True,
        "first_call_seconds": 0.3,
        "step_seconds": seconds,
        "step_seconds_p95": 2 * seconds,
        "samples": 12,
        "steps_a_sample": 3,
        "images_per_second": 64 / seconds,
        "nominal_flops": 64 * 2e6,
        "xla_flops": 64 * 3e6,
        "flops_per_second": 5e9,
        "matmul_share": 0.25,
        "peak_rss_bytes": 2**29 if more.get("from_cache", True) else 2**30,
        "peak_device_bytes": None,
        "environment": {"device_kind": "chip", "cpu_count": 3, "jax_version": "1.2"},
        **more,
    }


@pytest.fixture
def processes(monkeypatch):
    """Fresh processes with given reports; the list of the cases that they were asked for."""
    asked, reports = [], {}

    def fake(case, seconds, cache):
        asked.append((case, seconds, cache))
        return dict(reports[case["driver"]].pop(0))

    monkeypatch.setattr(bench_step, "in_fresh_process", fake)
    return asked, reports


def test_rounds_alternate_and_medians_are_taken(processes, tmp_path, capsys):
    asked, reports = processes
    reports["step"] = [report_of(s, from_cache=s > 0.01) for s in (0.010, 0.012, 0.020)]
    reports["loop"] = [
        report_of(s, from_cache=False, xla_flops=None) for s in (0.001, 0.002, 0.003)
    ]
    path = tmp_path / "new" / "x.json"
    assert bench_step.main(["lab6", "lab6"], seconds=0.5, output=path)[0]["samples"][1] == 0.012
    assert [case["driver"] for case, _, _ in asked] == ["step", "loop"] * 3
    assert {(case["net"], case["batch_size"], case["form"]) for case, _, _ in asked} == {
        ("lab6", 64, None)
    }
    caches = [cache for *_, cache in asked]
    assert caches[:2] == caches[2:4] == caches[4:]
    assert caches[0] != caches[1]

    content = json.loads(path.read_text())
    step, loop = content["rows"]
    assert (step["case"], step["unit"]) == ("lab6, batch 64, float32, step", "s")
    assert step["samples"] == [0.010, 0.012, 0.020]
    assert step["summary"]["compile_seconds_cold"] == 1.0
    assert step["summary"]["compile_seconds_cached"] == pytest.approx(1.6)
    assert loop["summary"]["compile_seconds_cached"] is None
    assert content["environment"]["device_kind"] == "chip"
    out = capsys.readouterr().out
    step, loop = (f"| lab6, batch 64, float32, {driver} | " for driver in ("step", "loop"))
    assert step + "0.10 | 0.20 | 1.00 | 1.60 | 0.30 | 1,024 | 512 |  |" in out
    assert loop + "0.10 | 0.20 | 0.20 |  | 0.30 | 1,024 |  |  |" in out
    rest = "24.000 | 3 × 12 of 3 | 5,333 | 2.00 | 3.00 | 5.0 | 0.25 |"
    assert step + f"12.000 (10.000 to 20.000) | {rest}" in out
    assert f"Results: {path}" in out
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_seeds_are_measured_beside_one_alone(processes, tmp_path, capsys):
    asked, reports = processes
    reports["loop"] = [report_of(0.010, from_cache=False), report_of(0.020), report_of(0.010)]
    reports["map"] = [report_of(0.012, from_cache=False), report_of(0.018), report_of(0.011)]
    reports["vmap"] = [{"error": "Out of memory"}]
    bench_step.main(["dense"], replicas=[4, 4], output=tmp_path / "x.json")
    order = [("loop", 1), ("map", 4), ("vmap", 4), ("loop", 1), ("map", 4)]
    assert [(case["driver"], case["replicas"]) for case, *_ in asked[:5]] == order
    out = capsys.readouterr().out
    line = "| dense, batch 128, float32, map, 4 replicas | 12.000 | 1.10 (0.90 to 1.20) | "
    assert line + "1.20 | 1.00 | 1.45 | 1.50 | 512 |" in out
    assert "dense, batch 128, float32, vmap, 4 replicas: failed, Out of memory" in out
    assert "| dense, batch 128, float32, vmap, 4 replicas |" not in out


def test_a_case_that_fails_is_shown_and_the_others_go_on(processes, tmp_path, capsys):
    asked, reports = processes
    reports["step"] = [{"error": "Out of memory"}]
    reports["loop"] = [report_of(0.001), report_of(0.002)]
    bench_step.main(["dense"], rounds=2, output=tmp_path / "x.json")
    assert len(asked) == 3
    out = capsys.readouterr().out
    assert "round 1/2, dense, batch 128, float32, step: Out of memory" in out
    assert "\ndense, batch 128, float32, step: failed, Out of memory\n" in out
    failed, done = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert (failed["error"], failed["samples"]) == ("Out of memory", [])
    assert done["samples"] == [0.001, 0.002]


def test_measurements_before_ctrl_c_are_kept_and_shown(processes, tmp_path, capsys, monkeypatch):
    _, reports = processes
    reports["step"], reports["loop"] = [report_of(0.001)], []
    fake = bench_step.in_fresh_process

    def interrupted(case, seconds, cache):
        if case["driver"] == "loop":
            raise KeyboardInterrupt
        return fake(case, seconds, cache)

    monkeypatch.setattr(bench_step, "in_fresh_process", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench_step.main(["dense"], output=tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["rows"][0]["samples"] == [0.001]
    out = capsys.readouterr().out
    assert "| dense, batch 128, float32, step | 1.000 (1.000 to 1.000)" in out
    assert f"Results: {tmp_path / 'x.json'}" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 1}, "rounds must be 2 or more, the first cold, the next cached; not 1"),
        ({"seconds": 0}, "seconds must be above 0 and below 3600, not 0"),
        ({"batch_sizes": [32, 0]}, "batch_sizes must be a positive integer, not 0"),
        ({"batch_sizes": [60_001]}, "batch_sizes must be at most 60000, all of MNIST, not 60001"),
        ({"replicas": [8, 0]}, "seeds must be a positive integer, not 0"),
        ({"output": Path("x.png")}, "output must be a NAME.json, not 'x.png'"),
        ({"output": EXPERIMENTS / "results" / "accuracy.json"}, "is there already"),
    ],
)
def test_bad_input_measures_nothing(options, message, processes):
    with pytest.raises((ValueError, FileExistsError), match=message):
        bench_step.main(["dense"], **options)
    assert processes[0] == []


def test_the_reason_of_a_failed_process_is_kept(tmp_path):
    case = {"net": "lab5", "batch_size": 2, "dtype": "float32", "driver": "step", "form": None}
    report = bench_step.in_fresh_process(case, 0.1, str(tmp_path))
    assert report == {"error": "KeyError: 'lab5'"}


def test_batch_sizes_are_named_or_swept():
    command = [sys.executable, str(SCRIPT), "--sweep", "--batch-sizes", "3"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "--sweep and --batch-sizes exclude each other" in run.stderr
    command = [sys.executable, str(SCRIPT), "--seeds", "2", "--drivers", "step"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "--seeds and --drivers exclude each other" in run.stderr


@pytest.mark.filterwarnings("ignore")  # TFDS' own
def test_a_stream_is_prepared_and_its_workers_are_passed_on(processes, tmp_path, monkeypatch):
    asked, reports = processes
    reports["loop"], reports["stream"] = ([report_of(0.01, from_cache=False)] * 3 for _ in "ab")
    prepared = []
    monkeypatch.setattr(bench_step.tfds, "prepare", lambda **where: prepared.append(where))
    options = {"drivers": ["loop", "stream"], "workers": 2, "output": tmp_path / "x.json"}
    rows = bench_step.main(["dense"], **options)
    assert [row["driver"] for row in rows] == ["loop", "stream"]
    (where,) = prepared
    loop_case, stream_case = asked[0][0], asked[1][0]
    assert stream_case == {**loop_case, "driver": "stream", "workers": 2, **where}
    with pytest.raises(ValueError, match="workers must be a positive integer or 0, not -1"):
        bench_step.main(["dense"], workers=-1, output=tmp_path / "y.json")


def step_row(case: str, batch_size: int, values: list, cached: list) -> dict:
    figures = {"ms a step": values, "seconds to the first step, cached": cached}
    series = case.replace(f", batch {batch_size}", "")
    return {"case": case, "series": series, "batch_size": batch_size, "figures": figures}


def test_steps_of_one_batch_size_are_bars(drawn, tmp_path):
    rows = [
        step_row("a, batch 32", 32, [3.0, 1.0, 2.0], [None]),
        step_row("b, batch 32", 32, [1.0], [0.5]),
    ]
    bench_step.plot_steps(rows, tmp_path / "x.png", title="t")
    steps, cached = drawn[0].axes
    assert [bar.get_width() for bar in steps.patches] == [2.0, 1.0]
    assert [bar.get_width() for bar in cached.patches] == [0.5]
    assert [label.get_text() for label in steps.get_yticklabels()] == ["a, batch 32", "b, batch 32"]


def test_steps_of_several_batch_sizes_are_lines(drawn, tmp_path):
    rows = [
        step_row(f"{net}, batch {size}", size, [size * 1.0, size * 3.0, size * 2.0], [None])
        for net in ("a", "b")
        for size in (64, 1)
    ]
    rows[0]["figures"]["seconds to the first step, cached"] = [0.5]
    bench_step.plot_steps(rows, tmp_path / "x.png", title="t")
    steps, cached = drawn[0].axes
    assert [line.get_xydata().tolist() for line in steps.lines] == [[[1, 2], [64, 128]]] * 2
    assert [line.get_label() for line in steps.lines] == ["a", "b"]
    assert steps.get_yscale() == "log"
    assert [line.get_xydata().tolist() for line in cached.lines] == [[[64, 0.5]], []]
    assert cached.get_yscale() == "linear"
    assert [int(tick) for tick in steps.get_xticks()] == [1, 64]


@pytest.mark.slow
@pytest.mark.parametrize("bare", [False, True])
def test_fresh_processes_compile_once(bare, tmp_path):
    """Also if only the core is installed."""
    command = [sys.executable, str(SCRIPT), "--nets", "dense", "--batch-sizes", "16"]
    command += ["--rounds", "2", "--seconds", "0.1", "--output", str(tmp_path / "x.json")]
    missing = ("h5py", "keras", "matplotlib", "PIL", "tensorflow_datasets", "tyro")
    lines = [f"sys.modules[{name!r}] = None" for name in missing]
    (tmp_path / "sitecustomize.py").write_text("\n".join(["import sys", *lines]))
    environment = {**os.environ, **({"PYTHONPATH": str(tmp_path)} if bare else {})}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert [(row["batch_size"], row["driver"]) for row in rows] == [
        (16, "step"),
        (16, "loop"),
    ]
    for row in rows:
        assert [report["from_cache"] for report in row["reports"]] == [False, True]
        assert f"| {row['case']} | " in run.stdout
    assert (tmp_path / "x.png").exists() == (not bare)
    warning = "matplotlib is missing: the picture is left out (pip install matplotlib)."
    assert (warning in run.stdout) == bare
