import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.lessons import conv1d
from jaxconv.models.ops import conv

numbers = st.lists(st.integers(-9, 9), min_size=1, max_size=7)
modes = st.sampled_from(conv1d.MODES)


@given(numbers, numbers, modes)
def test_convolve_equals_numpys_whichever_line_is_longer(signal, kernel, mode):
    expected = np.convolve(signal, kernel, mode)
    np.testing.assert_array_equal(conv1d.convolve(signal, kernel, mode), expected)


@given(numbers, numbers)
def test_a_layer_is_a_cross_correlation(signal, kernel):
    kernel = kernel[: len(signal)]
    expected = np.correlate(signal, kernel, "valid")
    np.testing.assert_array_equal(conv1d.cross_correlate(signal, kernel), expected)
    zeros = len(kernel) - 1
    expected = np.correlate(signal, kernel, "full")
    np.testing.assert_array_equal(conv1d.cross_correlate(signal, kernel, (zeros, zeros)), expected)


def test_with_an_even_kernel_numpy_and_keras_put_the_odd_zero_on_different_sides():
    image, kernel = jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1), jnp.ones((1, 2, 1, 1))
    assert conv1d.convolve([1, 2, 3, 4], [1, 1], "same").tolist() == [1, 3, 5, 7]
    assert conv(image, kernel, padding="same").ravel().tolist() == [3, 5, 7, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1], [1], "sane"), "Unknown mode 'sane' .did you mean 'same'"),
        (([[1, 2]], [1]), r"signal is a line of one number or more, not of shape \(1, 2\)"),
        (([1, 2], []), r"kernel is a line of one number or more, not of shape \(0,\)"),
    ],
)
def test_bad_lines_and_modes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        conv1d.convolve(*arguments)


@pytest.mark.parametrize("width", [0, 101])
def test_a_width_out_of_range_is_refused(width, tmp_path):
    config = conv1d.Config(output_dir=str(tmp_path / "x"), width=width)
    with pytest.raises(ValueError, match=f"width is 1 to 100, .*, not {width}"):
        conv1d.main(config)
    assert list(tmp_path.iterdir()) == []


def test_the_lesson_writes_its_figures_and_its_picture(tmp_path, capsys):
    result = conv1d.main(conv1d.Config(output_dir=str(tmp_path)))
    assert json.loads((tmp_path / "result.json").read_text()) == result
    picture = (tmp_path / "picture.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < 1_000_000

    printed = capsys.readouterr().out  # as 004 prints it
    assert "full_of_h_and_x: [ 6 14 34 34  8]\n" in printed
    assert "valid_of_h_and_x: [14 34 34]\n" in printed
    assert result["same_004"] == [1.5, 3, 4.5, 6, 7.5, 9, 10.5, 12, 8.5]
    assert result["layer_of_h_and_x"] == np.correlate([1, 2, 5, 4], [6, 2]).tolist()

    line = np.arange(1, 10)
    assert result["pair_averages"] == ((line[1:] + line[:-1]) / 2).tolist()
    assert result["kernel_004_sum"] == 1.5
    means = [line[i : i + 3].mean() for i in range(7)]
    np.testing.assert_allclose(result["mean_of_three"], means, rtol=1e-6)
    at_left = [sum(([0, 0, *line])[i : i + 3]) / 2 for i in range(9)]
    assert result["padded_left_004"] == at_left

    # 992 means of 9, of which about 110 are independent: their deviation is known to some 10%.
    assert result["noise_before"] == pytest.approx(conv1d.NOISE, rel=0.1)
    assert result["noise_expected"] == pytest.approx(result["noise_before"] / 3)
    assert result["noise_after"] == pytest.approx(result["noise_expected"], rel=0.2)
    step = np.pi / conv1d.PERIOD  # a mean of w multiplies a sine by sin(w·step) / (w·sin(step))
    damped = np.sin(9 * step) / (9 * np.sin(step))
    assert result["sine_amplitude_after"] == pytest.approx(damped, abs=2e-4)

    assert result["dense_params"][0] == 23_550  # 004's
    assert result["dense_params"][-1] == 512 * 512 * 3 * 30 + 30
    assert result["conv_params"] == [3 * 3 * 30 + 30] + [3 * 3 * 3 * 30 + 30] * 5
