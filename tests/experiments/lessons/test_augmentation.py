import json

import numpy as np
import pytest

from experiments.lessons import augmentation, lesson


def test_the_lesson_measures_ink_and_draws_its_picture(digits, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(augmentation, "load_dataset", lambda _: digits)
    result = augmentation.main(lesson.Config(output_dir=str(tmp_path)))
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    ink = result["ink"]
    assert ink.keys() == augmentation.AUGMENTATIONS.keys()
    assert ink["as it is"] == ink["shift 1"] == 1  # nothing is cut
    # A square of 6×6 on a few hundred of 784 pixels, and turns that keep what they can.
    assert 0.8 < ink["erase 6"] < 1
    assert ink["rotation 15°"] == pytest.approx(1, abs=0.01)
    assert "shift 1: 1.0000 of the ink" in capsys.readouterr().out


def test_ink_is_the_sum_of_the_pixels():
    image = np.zeros((2, 3, 3, 1), np.uint8)
    image[1, 1:] = 200
    assert augmentation.ink(image).tolist() == [0, 1200]
