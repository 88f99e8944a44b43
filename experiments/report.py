"""The page of a run, made anew from the files in its folder: `report.html`.

    python experiments/report.py runs/lab6-0-1

Every experiment writes it at its end. It needs no network and no other file; light and dark follow
the browser, and it prints.
"""

import argparse
from pathlib import Path

from jaxconv.runs.cli import exit_codes
from jaxconv.runs.report.render import write_report


def main(folder: str) -> Path:
    path = write_report(Path(folder))
    print(f"Report: {path}")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="the folder of a finished run")
    with exit_codes():
        main(parser.parse_args().folder)
