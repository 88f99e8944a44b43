"""Prepares a TFDS data set on disk, as array_record, which jaxconv reads without TensorFlow.

    python experiments/prepare_tfds.py                      the bundled MNIST, as jaxconv_mnist
    python experiments/prepare_tfds.py fashion_mnist        TFDS' own download_and_prepare

The first command needs neither network nor TensorFlow (10 s on 2 cores). The second needs the
network, and for some sets TensorFlow. An experiment reads either with `--dataset tfds:NAME`.
"""

import argparse

from jaxconv.data import tfds
from jaxconv.runs import exit_codes


def main(name: str = tfds.MNIST_BUILDER, data_dir: str | None = None) -> None:
    if name != tfds.MNIST_BUILDER and not tfds.tensorflow_installed():
        print(
            "TensorFlow is not installed: a set whose preparation needs it will fail.", flush=True
        )
    if data_dir == "":
        raise ValueError("data_dir is empty: name a folder, or leave it out.")
    path = tfds.prepare(name, data_dir=data_dir)
    option = f" --data-dir {data_dir}" if data_dir else ""
    print(f"Prepared {path}\nTrain on it: python experiments/lab6.py --dataset tfds:{name}{option}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", default=tfds.MNIST_BUILDER, help="A TFDS name.")
    parser.add_argument("--data-dir", help="The folder of the sets (TFDS' own).")
    with exit_codes():
        arguments = parser.parse_args()
        main(arguments.name, arguments.data_dir)
