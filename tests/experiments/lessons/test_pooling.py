import json

import numpy as np
import pytest

from experiments.lessons import lesson, pooling


@pytest.fixture
def one_digit_in_a_hundred(mnist, monkeypatch):
    few = mnist.from_arrays(
        mnist.train.image[:20],  # all ten classes
        mnist.train.label[:20],
        mnist.test.image[:100],
        mnist.test.label[:100],
    )
    monkeypatch.setattr(pooling, "load_dataset", lambda name: few)
    return few.test.image.astype(np.float64)[..., 0] / 255


def windows(image: np.ndarray) -> np.ndarray:
    """The 2×2 cells that each window holds, last."""
    samples, height, width = image.shape
    cells = image.reshape(samples, height // 2, 2, width // 2, 2).transpose(0, 1, 3, 2, 4)
    return cells.reshape(samples, height // 2, width // 2, 4)


def pooled(image: np.ndarray) -> dict[str, np.ndarray]:
    highest, mean = windows(image).max(-1), windows(image).mean(-1)
    twice = {"max_twice": windows(highest).max(-1), "avg_twice": windows(mean).mean(-1)}
    return {"image": image, "max": highest, "avg": mean, **twice}


def test_shifted_is_one_pixel_to_the_right():
    image = np.arange(1, 10).reshape(1, 3, 3, 1)
    assert pooling.shifted(image)[0, :, :, 0].tolist() == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]


def test_the_lesson_writes_its_figures_and_its_picture(one_digit_in_a_hundred, tmp_path):
    result = pooling.main(lesson.Config(output_dir=str(tmp_path)))
    assert json.loads((tmp_path / "result.json").read_text()) == result
    picture = (tmp_path / "picture.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < 1_000_000

    # As 001 prints them; the averages by hand, without the cells that "same" adds.
    assert result["example_1_max"] == [[5, 6], [8, 9]]
    assert result["example_2_max"] == [[6, 8]]
    assert result["example_3_max"] == [[5, 6, 6], [8, 9, 9], [8, 9, 9]]
    assert result["example_1_avg"] == [[3, 4], [6, 7]]
    assert result["example_2_avg"] == [[3.5, 5.5]]
    assert result["example_3_avg"] == [[3, 4, 4.5], [6, 7, 7.5], [7.5, 8.5, 9]]

    image = one_digit_in_a_hundred
    moved = np.zeros_like(image)
    moved[:, :, 1:] = image[:, :, :-1]
    before, after = pooled(image), pooled(moved)
    pixels = np.abs(moved - image).mean()
    for name, expected in before.items():
        assert result[f"{name}_coefficients"] == {28: 784, 14: 196, 7: 49}[expected.shape[1]]
        assert result[f"{name}_brightness"] == pytest.approx(expected.mean(), rel=1e-5)
        change = np.abs(after[name] - expected).mean()
        assert result[f"{name}_change_by_shift"] == pytest.approx(change, rel=1e-5)
        assert result[f"{name}_shift_ratio"] == pytest.approx(change / pixels, rel=1e-5)
        relative = (change / expected.mean()) / (pixels / image.mean())
        at_equal = result[f"{name}_shift_ratio_at_equal_brightness"]
        assert at_equal == pytest.approx(relative, rel=1e-5)
    brighter = np.abs(before["max"].mean((1, 2)) - image.mean((1, 2))).max()
    assert result["max_mean_difference"] == pytest.approx(brighter, rel=1e-5)
    assert max(result["avg_mean_difference"], result["avg_twice_mean_difference"]) < 1e-7
