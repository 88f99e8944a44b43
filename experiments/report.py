"""Writes the page of a run, `report.html`, anew from the files in its folder.

    python experiments/report.py runs/lab6-0-1

Every experiment writes the page when it ends. The page needs no network and no other file, is light
or dark as the browser is, and can be printed.
"""

import argparse
from pathlib import Path

from jaxconv.runs import exit_codes, write_report


def main(folder: str) -> Path:
    path = write_report(Path(folder))
    print(f"Report: {path}")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="The folder of a finished run.")
    with exit_codes():
        main(parser.parse_args().folder)
