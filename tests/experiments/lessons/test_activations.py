import json

import numpy as np
import pytest

from experiments.lessons import activations


def test_a_unit_that_no_digit_activates_is_dead(digits, monkeypatch):
    train_one_epoch = activations.train_one_epoch

    def trained(*arguments):
        state = train_one_epoch(*arguments)
        bias = np.full(512, 1e3, np.float32)  # active, whatever the digit
        bias[[3, 100, 511]] = -1e3
        dense1 = {**state.params["dense1"], "bias": bias}
        # Unit 7 is active for one digit alone, the one with the most ink.
        ink = digits.test.image.sum(axis=(1, 2, 3)) / 255
        dense1["kernel"] = np.asarray(dense1["kernel"]).copy()
        dense1["kernel"][:, 7] = 1
        bias[7] = -np.sort(ink)[-2:].mean()
        return state._replace(params={**state.params, "dense1": dense1})

    monkeypatch.setattr(activations, "train_one_epoch", trained)
    assert activations.dead_units(1e-3, 0, digits)["dead_share"] == 3 / 512


@pytest.mark.slow
@pytest.mark.usefixtures("few_digits")
def test_the_lesson_writes_its_figures_and_its_picture(tmp_path, monkeypatch, digits, capsys):
    monkeypatch.setattr(activations, "load_dataset", lambda name: digits)
    folder = tmp_path / "lesson"
    config = activations.Config(seeds="3,7", output_dir=str(folder))
    result = activations.main(config)
    assert json.loads((folder / "result.json").read_text()) == result
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert not any(isinstance(x, dict) for x in result.values())
    assert result["sigmoid_largest_derivative"] == 0.25
    assert result["sigmoid_largest_derivative_at"] == 0

    # 20 layers of 100 glorot-uniform units: the factors that variances predict, and 002's bound.
    assert len(result["sigmoid_norms"]) == len(result["sigmoid_bound"]) == 20
    assert result["sigmoid_factor"] < 0.25 < result["sigmoid_bound_factor"] < 0.5
    assert 0 < result["sigmoid_largest_share_of_bound"] <= 1
    assert (np.array(result["sigmoid_norms"]) <= result["sigmoid_bound"]).all()
    relu = [result[f"relu_{name}_factor"] for name in ("glorot", "he", "large")]
    np.testing.assert_allclose(relu, [0.5**0.5, 1, 3 * 0.5**0.5], rtol=0.05)

    assert (result["collapsed_kernel_shape"], result["collapsed_stride"]) == ([15, 15, 1, 64], 8)
    assert (result["params_before"], result["params_collapsed"]) == (23_296, 14_464)
    assert result["largest_difference"] < 1e-4 < result["largest_output"]
    assert 0 <= result["usual_dead_share"] <= result["large_dead_share"] <= 1
    second = json.loads((folder / "comparison" / "second" / "config.json").read_text())
    assert (second["experiment"], second["model"]["activation"]) == ("strided", "relu")
    assert (result["seeds"], result["pairs"]) == ([3, 7], 2)
    printed = capsys.readouterr().out
    assert "(23,296 parameters) equal one with 14,464" in printed
    with pytest.raises(FileExistsError, match="already holds"):
        activations.main(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 1}, "depth must be 2 to 50, or float32 has no room for the norms, not 1"),
        ({"depth": 51}, "not 51"),
        ({"width": 0}, "width must be a positive integer"),
    ],
)
def test_bad_settings_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        activations.main(activations.Config(output_dir=str(tmp_path / "lesson"), **settings))
    assert list(tmp_path.iterdir()) == []
