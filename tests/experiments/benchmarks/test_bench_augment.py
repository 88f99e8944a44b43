import json

import pytest

from experiments.benchmarks import bench_augment


def test_kinds_take_turns_after_a_first_round(digits, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_augment.jaxconv, "load_dataset", lambda _: digits)
    nets, seconds = [], iter(range(1, 100))

    def fit(net, state, data, **options):
        nets.append(net)
        assert len(data["label"]) == 256
        return state, [{"seconds": float(next(seconds))}]

    monkeypatch.setattr(bench_augment.jaxconv, "fit", fit)
    content = bench_augment.main(["dense"], 2, steps=2, output=tmp_path / "x.json")
    assert nets[:4] == nets[4:8] == nets[8:]
    assert len(set(map(id, nets))) == 4
    assert content["dense"]["none"] == [5.0, 9.0]  # without those of the first round
    assert json.loads((tmp_path / "x.json").read_text()) == content
    assert "shift: 1.156 (1.111 to 1.200) of it" in capsys.readouterr().out
    with pytest.raises(ValueError, match="rounds must be a positive integer, not 0"):
        bench_augment.main(["dense"], 0)
