import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import bench_compare

SCRIPT = Path(bench_compare.__file__)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1.0, 1.1, 1.2], [2.0, 2.1, 2.2], "slower"),
        ([2.0, 2.1, 2.2], [1.0, 1.1, 1.2], "faster"),
        ([1.0, 1.1, 1.2], [1.15, 1.3, 1.4], "no difference beyond the spread"),  # they overlap
        ([1.0, 1.0, 1.3], [1.4, 1.4, 1.4], "slower"),
        ([1.0, 1.0, 1.9], [1.5, 2.0, 2.0], "no difference beyond the spread"),  # medians are apart
        ([1.0, 1.25, 1.3], [1.4, 1.4, 1.4], "no difference beyond the spread"),  # 0.15 against 0.3
        (
            [1.4, 1.4, 1.4],
            [1.0, 1.25, 1.3],
            "no difference beyond the spread",
        ),  # the other's spread
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "no difference beyond the spread"),
        ([1.0, 1.0], [2.0, 2.0, 2.0], "fewer than 3 rounds: no verdict"),
        ([1.0, 1.0, 1.0], [2.0], "fewer than 3 rounds: no verdict"),
    ],
)
def test_a_difference_is_real_beyond_both_spreads_alone(before, after, expected):
    assert bench_compare.verdict(before, after) == expected


def result(path: Path, rows: dict, **more) -> Path:
    rows_of = [{"case": case, "samples": samples} for case, samples in rows.items()]
    path.write_text(json.dumps({"benchmark": "step", "rows": rows_of, **more}))
    return path


def test_two_results_stand_side_by_side(tmp_path, capsys):
    rows = {"a": [0.010, 0.011, 0.012], "b": [2.0, 2.0, 2.0], "c": [1.0], "e": [1.0, None]}
    before = result(tmp_path / "x.json", rows, date="1", environment={"jax_version": "0.10.2"})
    after = result(
        tmp_path / "y.json",
        {"a": [0.001, 0.002, 0.003], "b": [2.0, 2.0, 2.0], "d": [1.0], "e": [1.0, 1.0]},
        date="1",
        environment={"jax_version": "0.12.0"},
    )
    bench_compare.main(before, after)
    assert capsys.readouterr().out.splitlines() == [
        "jax_version: 0.10.2 → 0.12.0",
        "",
        "| case | x.json | y.json | ratio | verdict |",
        "|---|---|---|---|---|",
        "| a | 11 ms (10 to 12) | 2 ms (1 to 3) | 0.182 | faster |",
        "| b | 2 s (2 to 2) | 2 s (2 to 2) | 1.000 | no difference beyond the spread |",
        "| e | | | | failed on a side |",
        "",
        "In x.json alone: c",
        "",
        "In y.json alone: d",
    ]


def test_two_settings_stand_side_by_side(tmp_path, capsys):
    rows = {"lab6, loop": [1.0] * 3, "lab6, map, 5 replicas": [4.0] * 3, "intro, loop": [1.0] * 3}
    same = result(tmp_path / "x.json", rows)
    bench_compare.main(same, same, ("loop", "map, 5 replicas"))
    assert capsys.readouterr().out.splitlines()[3:] == [
        "| lab6, loop → map, 5 replicas | 1 s (1 to 1) | 4 s (4 to 4) | 4.000 | slower |",
        "",
        "In x.json alone: intro, loop → map, 5 replicas",
    ]
    with pytest.raises(ValueError, match="No case has the setting 'xla': the cases are lab6, loop"):
        bench_compare.main(same, same, ("loop", "xla"))


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        '{"benchmark": "step", "rows": [{"case": "a"}]}',
        '{"benchmark": "step", "rows": [{"case": "a", "samples": ["x"]}]}',
        '{"benchmark": 3, "rows": []}',
    ],
)
def test_what_is_no_result_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"x.json is not a result of bench_step.py or bench_peers.py"
    ):
        bench_compare.load(tmp_path / "x.json")


def test_results_that_have_nothing_in_common_are_refused(tmp_path):
    one = result(tmp_path / "x.json", {"a": [1.0]})
    other = result(tmp_path / "y.json", {"b": [1.0]})
    with pytest.raises(ValueError, match="no case in common"):
        bench_compare.main(one, other)
    peers = result(tmp_path / "z.json", {"a": [1.0]}, benchmark="peers")
    with pytest.raises(ValueError, match=r"x.json is of bench_step.py and .*z.json of bench_peers"):
        bench_compare.main(one, peers)
    command = [sys.executable, str(SCRIPT), str(one), str(tmp_path / "lost.json")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "lost.json" in run.stderr
    assert "Traceback" not in run.stderr
