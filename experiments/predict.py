"""Asks the net of a run about pictures: which class each shows, and how probable that is.

    python experiments/predict.py runs/lab6-0-1 seven.png photo.jpg more/*.png
    python experiments/predict.py runs/lab6-0-1 seven.png --json    one line of JSON a picture
    python experiments/predict.py runs/lab6-0-1 seven.png --show    seven.png.seen.png

A net that takes 28 x 28 grey pixels gets each picture as MNIST made its digits: cropped, 20 x 20
pixels large, centred, white on black. So one digit belongs on each, on an empty background. Every
other net, and one that learned from `folder:DIR`, gets the whole picture in its own size. `--show`
writes what the net was given. A picture that cannot be read has its line on stderr; the others are
answered, and the exit code is 2.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

import jaxconv
from jaxconv.data import prepare_digit
from jaxconv.data.files import read_image
from jaxconv.runs import exit_codes

SEEN = ".seen.png"
"""Ends the name of a picture that `--show` writes."""


def main(run: str, files: Sequence[str], *, as_json: bool = False, show: bool = False) -> None:
    trained = jaxconv.load_run(run)
    height, width, channels = trained.input_shape
    digits = trained.input_shape == (28, 28, 1) and not trained.dataset.startswith("folder:")
    how = "prepared like MNIST's digits" if digits else "resized"
    print(f"Each picture is {how}: {height} x {width} x {channels}.", file=sys.stderr)
    asked, given = [], []
    for file in files:
        try:
            if digits:
                picture = prepare_digit(read_image(file, channels=4))
            else:
                picture = read_image(file, size=(height, width), channels=channels)
            if show:
                write_seen(file, picture)
        except (ValueError, OSError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            print(reason if file in reason else f"{file}: {reason}", file=sys.stderr)
        else:
            asked.append(file)
            given.append(picture)
    if given:
        probabilities = trained.predict(np.stack(given))
        names = trained.class_names or [str(i) for i in range(trained.num_classes)]
        rows = [
            {"file": file} | answer(names, own)
            for file, own in zip(asked, probabilities, strict=True)
        ]
        if as_json:
            for row in rows:
                print(json.dumps(row))
        else:
            print_table(rows)
    if len(given) < len(files):
        sys.exit(2)


def answer(names: Sequence[str], probabilities: np.ndarray) -> dict[str, Any]:
    """The two most probable classes, and how probable they are."""
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    return {
        "class": names[first],
        "probability": float(probabilities[first]),
        "second": names[second],
        "second_probability": float(probabilities[second]),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    cells = [["file", "class", "probability", "second choice", "probability"]]
    for row in rows:
        cells.append([f"{x:.4f}" if isinstance(x, float) else x for x in row.values()])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def write_seen(file: str, picture: UInt8[np.ndarray, "height width channels"]) -> None:
    """Writes what the net is given beside the file, its pixels enlarged."""
    from PIL import Image

    times = max(1, 280 // max(picture.shape))
    large = picture.repeat(times, axis=0).repeat(times, axis=1)
    path = Path(file + SEEN)
    Image.fromarray(large.squeeze(-1) if large.shape[-1] == 1 else large).save(path)
    print(f"Seen: {path}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="The folder of a finished run, or its model.safetensors.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="Pictures: PNG, JPEG and others.")
    parser.add_argument("--json", action="store_true", help="Print JSON Lines.")
    parser.add_argument("--show", action="store_true", help="Write what the net was given.")
    with exit_codes():
        arguments = parser.parse_args()
        main(arguments.run, arguments.files, as_json=arguments.json, show=arguments.show)
