"""Writes `draw.html` for a run: a page on which you draw digits, and its net answers as you draw.

    python experiments/draw.py runs/lab6-0-1

The page holds the net's weights and computes in the browser: it needs no network and no other file,
so that you can open it on a phone, or send it to someone.
"""

import argparse
from pathlib import Path

from jaxconv.runs import exit_codes, load_run
from jaxconv.runs.draw import write_draw_page


def main(run: str, output: str | None = None) -> Path:
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    path = Path(output) if output else folder / "draw.html"
    if path.suffix != ".html":  # so that it replaces no other file
        raise ValueError(f"The page is a file such as draw.html, not {output!r}.")
    trained = load_run(run)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}: make it, or name another.")
    write_draw_page(trained, path)
    print(f"Draw: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="The folder of a finished run, or its model.safetensors.")
    parser.add_argument("--output", help="The page to write (draw.html in the run's folder).")
    with exit_codes():
        arguments = parser.parse_args()
        main(arguments.run, arguments.output)
