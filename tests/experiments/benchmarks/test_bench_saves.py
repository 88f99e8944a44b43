import json

import pytest

from experiments.benchmarks import bench_saves


def test_every_kind_is_timed_in_every_round_and_kept(tmp_path, capsys):
    output = tmp_path / "saves.json"
    content = bench_saves.main(["dense"], rounds=2, samples=300, output=str(output))
    assert json.loads(output.read_text()) == content
    assert {kind: len(times) for kind, times in content["dense"].items()} == {
        "unchecked": 2,
        "checked": 2,
        "saved each epoch": 2,
        "saved every 100 steps": 2,
    }
    printed = capsys.readouterr().out
    assert "dense: unchecked " in printed
    for kind in ("checked", "saved each epoch", "saved every 100 steps"):
        assert f"  {kind}: " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((["lab7"], 1), "Unknown net 'lab7'"), ((["dense"], 0), "rounds must be a positive integer")],
)
def test_bad_arguments_are_refused_before_anything_runs(arguments, message):
    with pytest.raises(ValueError, match=message):
        bench_saves.main(*arguments)
