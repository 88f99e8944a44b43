"""Medians and Markdown tables of what `bench_step.py` measures."""

import statistics
from collections.abc import Sequence
from typing import Any


def medians(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The medians over the rounds; those of cold and of cached compilations by themselves.

    Args:
      reports: one a round, as `measure_step.py` prints it.
    """
    numbers = {
        name: statistics.median(report[name] for report in reports)
        for name, value in reports[0].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    for cached, kind in ((False, "cold"), (True, "cached")):
        for name in ("compile_seconds", "peak_rss_bytes"):
            values = [report[name] for report in reports if report["from_cache"] == cached]
            numbers[f"{name}_{kind}"] = statistics.median(values) if values else None
    return numbers


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown tables of the time before the first step, and of the steady state."""
    before = [
        "| seconds until the first step is done | trace | lower | compile, cold | cached | "
        "first call | peak MiB, cold | cached | device |",
        "|---" * 9 + "|",
    ]
    steady = [
        "| steady state | ms a step | p95 of blocks | blocks | images/s | MFLOP an image | XLA's | "
        "GFLOP/s | of matmul |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        if "summary" in row:
            before.append(f"| {row['case']} | {' | '.join(_before_cells(row))} |")
            steady.append(f"| {row['case']} | {' | '.join(_steady_cells(row))} |")
    failed = [f"{row['case']}: failed, {row['error']}" for row in rows if "error" in row]
    return "\n".join([*before, "", *steady, *seeds_table(rows), *failed])


def _before_cells(row: dict[str, Any]) -> list[str]:
    s = row["summary"]
    seconds = ("trace_seconds", "lower_seconds", "compile_seconds_cold")
    seconds += ("compile_seconds_cached", "first_call_seconds")
    peaks = ("peak_rss_bytes_cold", "peak_rss_bytes_cached", "peak_device_bytes")
    cells = [_cell(s.get(name), 1.0, 2) for name in seconds]
    return cells + [_cell(s.get(name), 2**-20, 0) for name in peaks]


def _steady_cells(row: dict[str, Any]) -> list[str]:
    s, ms = row["summary"], [1e3 * sample for sample in row["samples"]]
    per_image = 1e-6 / row["batch_size"]
    return [
        f"{statistics.median(ms):.3f} ({min(ms):.3f} to {max(ms):.3f})",
        _cell(s["step_seconds_p95"], 1e3, 3),
        f"{len(ms)} × {s['samples']:.0f} of {s['steps_a_sample']:.0f}",
        _cell(s["images_per_second"], 1.0, 0),
        _cell(s["nominal_flops"], per_image, 2),
        _cell(s.get("xla_flops"), per_image, 2),
        _cell(s["flops_per_second"], 1e-9, 1),
        _cell(s["matmul_share"], 1.0, 2),
    ]


def seeds_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The Markdown table of replicas in one program against one alone; empty if there are none."""
    table = []
    for row in rows:
        if row["driver"] not in ("map", "vmap"):
            continue
        same = ("net", "batch_size", "dtype", "form")
        alone = [
            other
            for other in rows
            if other["driver"] == "loop" and all(other[key] == row[key] for key in same)
        ]
        if "summary" not in row or "summary" not in alone[0]:
            continue
        pairs = zip(row["samples"], alone[0]["samples"], strict=False)
        ratios = [together / one for together, one in pairs]
        s, one = row["summary"], alone[0]["summary"]
        cells = [
            f"{1e3 * s['step_seconds']:.3f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            *(
                _cell(x[f"compile_seconds_{k}"], 1.0, 2)
                for k in ("cold", "cached")
                for x in (s, one)
            ),
            _cell(s["peak_rss_bytes"], 2**-20, 0),
        ]
        table.append(f"| {row['case']} | {' | '.join(cells)} |")
    if not table:
        return []
    head = (
        "| replicas in one program | ms a step of each | ÷ one alone | compile s, cold | one alone "
    )
    return ["", head + "| cached | one alone | peak MiB |", "|---" * 8 + "|", *table]


def _cell(value: float | None, scale: float, digits: int) -> str:
    return "" if value is None else f"{scale * value:,.{digits}f}"
