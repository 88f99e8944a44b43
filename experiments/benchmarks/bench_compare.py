"""Compares two results of a benchmark: which differences are real, and which may be noise.

    python experiments/benchmarks/bench_compare.py BEFORE.json AFTER.json
    python experiments/benchmarks/bench_compare.py SAME.json SAME.json --settings loop stream

The files are those of `bench_step.py` or `bench_peers.py`. `--settings` compares the cases of two
settings, such as drivers, whose names are otherwise equal. A difference is real only if the medians
differ by more than the range of either side (its longest less its shortest round) and the ranges do
not overlap. A side of fewer than three rounds shows no range, and gets no verdict.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROUNDS = 3


def verdict(before: Sequence[float], after: Sequence[float]) -> str:
    """Whether the second row of seconds is faster or slower than the first, if that is clear."""
    if min(len(before), len(after)) < ROUNDS:
        return f"fewer than {ROUNDS} rounds: no verdict"
    change = statistics.median(after) - statistics.median(before)
    spread = max(max(side) - min(side) for side in (before, after))
    apart = max(before) < min(after) or max(after) < min(before)
    if not apart or abs(change) <= spread:
        return "no difference beyond the spread"
    return "slower" if change > 0 else "faster"


def load(path: Path) -> dict[str, Any]:
    """Reads a result.

    Raises:
      ValueError: if the file holds none.
    """
    try:
        content = json.loads(path.read_text())
        rows = {row["case"]: row["samples"] for row in content["rows"]}
        if not isinstance(content["benchmark"], str) or not all(
            isinstance(x, int | float) and x > 0
            for samples in rows.values()
            for x in samples
            if x is not None
        ):
            raise TypeError
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(
            f"{path} is not a result of bench_step.py or bench_peers.py: name a JSON file that "
            "one of them wrote."
        ) from None
    return {**content, "rows": rows}


def of_setting(rows: Mapping[str, Any], setting: str, label: str) -> Any:
    """The rows whose case has a setting among its parts, with the label in its place.

    Raises:
      ValueError: if no case has it.
    """
    parts = {f", {case},": row for case, row in rows.items()}
    found = {
        case.replace(f", {setting},", f", {label},")[2:-1]: row
        for case, row in parts.items()
        if f", {setting}," in case
    }
    if not found:
        raise ValueError(f"No case has the setting {setting!r}: the cases are {'; '.join(rows)}.")
    return found


def settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """Where and how a result was measured, as a flat dict."""
    known: dict[str, Any] = {}
    for key, value in content.items():
        if key not in ("rows", "benchmark"):
            known |= value if isinstance(value, Mapping) else {key: value}
    return known


def side(samples: Sequence[float]) -> str:
    """Median and range, in seconds or milliseconds."""
    middle = statistics.median(samples)
    scale, unit = (1.0, "s") if middle >= 1 else (1e3, "ms")
    low, middle, high = (scale * x for x in (min(samples), middle, max(samples)))
    return f"{middle:.4g} {unit} ({low:.4g} to {high:.4g})"


def main(before: Path, after: Path, both: Sequence[str] | None = None) -> None:
    results = [load(path) for path in (before, after)]
    kinds = [result["benchmark"] for result in results]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{before} is of bench_{kinds[0]}.py and {after} of bench_{kinds[1]}.py.")
    facts = [settings(result) for result in results]
    rows = [result["rows"] for result in results]
    if both is not None:
        rows = [of_setting(row, x, " → ".join(both)) for row, x in zip(rows, both, strict=True)]
    if not rows[0].keys() & rows[1].keys():
        raise ValueError(f"{before} and {after} have no case in common.")
    for name in sorted({*facts[0], *facts[1]}):
        if facts[0].get(name) != facts[1].get(name):
            print(f"{name}: {facts[0].get(name)} → {facts[1].get(name)}")
    print(f"\n| case | {before.name} | {after.name} | ratio | verdict |\n|---|---|---|---|---|")
    for case in rows[0]:
        pair = [row.get(case) for row in rows]
        if pair[1] is None:
            continue
        if not all(pair) or any(None in samples for samples in pair):
            print(f"| {case} | | | | failed on a side |")
            continue
        ratio = statistics.median(pair[1]) / statistics.median(pair[0])
        print(f"| {case} | {side(pair[0])} | {side(pair[1])} | {ratio:.3f} | {verdict(*pair)} |")
    for path, here, there in ((before, *rows), (after, *reversed(rows))):
        lone = [case for case in here if case not in there]
        if lone:
            print(f"\nIn {path.name} alone: {'; '.join(lone)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, metavar="BEFORE.json", help="A result.")
    parser.add_argument("after", type=Path, metavar="AFTER.json", help="Another, or the same.")
    parser.add_argument(
        "--settings", nargs=2, help="Compare cases of the first file and of the second by them."
    )
    given = parser.parse_args()
    try:
        main(given.before, given.after, given.settings)
    except (ValueError, OSError) as error:
        parser.error(str(error))
