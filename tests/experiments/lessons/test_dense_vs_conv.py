import json

import numpy as np
import pytest

from experiments.lessons import dense_vs_conv


def test_costs_match_the_formulas():
    costs = {net: dense_vs_conv.costs_by_layer(net) for net in ("dense", "lab6")}
    assert costs["dense"] == {
        "params": {"dense1": (784 + 1) * 512, "logits": (512 + 1) * 10},
        "macs": {"dense1": 784 * 512, "logits": 512 * 10},
    }
    assert costs["lab6"] == {
        "params": {
            "conv1": (9 + 1) * 32,
            "conv2": (9 * 32 + 1) * 64,
            "conv3": (9 * 64 + 1) * 128,
            "logits": (9 * 128 + 1) * 10,
        },
        "macs": {
            "conv1": 26**2 * 9 * 32,
            "conv2": 11**2 * 9 * 32 * 64,
            "conv3": 3**2 * 9 * 64 * 128,
            "logits": 9 * 128 * 10,
        },
    }


@pytest.mark.slow
@pytest.mark.usefixtures("few_digits")
def test_the_lesson_writes_its_figures_and_its_picture(tmp_path, capsys):
    folder = tmp_path / "lesson"
    config = dense_vs_conv.Config(seeds="3,7", output_dir=str(folder))
    result = dense_vs_conv.main(config)
    assert json.loads((folder / "result.json").read_text()) == result
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert not any(isinstance(x, dict) for x in result.values())
    assert (result["dense_params"], result["lab6_params"]) == (407_050, 104_202)
    assert (result["dense_macs"], result["lab6_macs"]) == (406_528, 3_100_032)
    assert result["notebook_error_saved_share"] == pytest.approx(13 / 22)
    means = {}
    for side, net in (("first", "dense"), ("second", "lab6")):
        run = json.loads((folder / "comparison" / side / "result.json").read_text())
        means[net] = 1 - np.mean(run["test_accuracy_by_seed"])
        assert (run["experiment"], run["seeds"]) == (net, [3, 7])
        assert result[f"{net}_error"] == pytest.approx(means[net])
    assert result["error_saved_share"] == pytest.approx(1 - means["lab6"] / means["dense"])
    printed = capsys.readouterr().out
    assert "dense: 407,050 parameters, 406,528 multiply-adds a digit" in printed
    assert "The notebook's accuracies: 59.1% saved" in printed
    with pytest.raises(FileExistsError, match="already holds"):
        dense_vs_conv.main(config)
