"""Makes TFDS sets on the disk for tests."""

import json
import shutil
from pathlib import Path

import jaxconv


def build(tmp_path: Path, name: str, splits: dict, features: dict) -> None:
    """Prepares a TFDS set of PIL images without TensorFlow, as a user's own builder would."""
    import tensorflow_datasets

    set_name = name

    class Made(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        name = set_name
        VERSION = tensorflow_datasets.core.Version("1.0.0")

        def _info(self):
            made = tensorflow_datasets.features.FeaturesDict(features)
            return tensorflow_datasets.core.DatasetInfo(
                builder=self, features=made, disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(rows) for split, rows in splits.items()}

        def _generate_examples(self, rows):
            yield from enumerate(rows)

    Made(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()


def prepare(folder: Path, name: str, **splits: jaxconv.Split) -> None:
    """Prepares splits of images and labels in [0, 10) as a TFDS set."""
    import tensorflow_datasets
    from PIL import Image

    def rows(split: jaxconv.Split):
        for image, label in zip(split.image, split.label, strict=True):
            grey = image.shape[-1] == 1
            yield {"image": Image.fromarray(image[..., 0] if grey else image), "label": int(label)}

    shape = splits["train"].image.shape[1:]
    features = {
        "image": tensorflow_datasets.features.Image(shape=shape),
        "label": tensorflow_datasets.features.ClassLabel(num_classes=10),
    }
    build(folder, name, {name: list(rows(split)) for name, split in splits.items()}, features)


def enlarge(folder: Path, name: str, times: int, into: Path) -> None:
    """Copies a prepared set with its training split repeated `times` times, as shards."""
    (version,) = (folder / name).iterdir()
    target = into / name / version.name
    target.mkdir(parents=True)
    for file in version.iterdir():
        stem, part, _ = file.name.partition(".array_record-")
        if part and stem.endswith("-train"):
            for i in range(times):
                shutil.copy(file, target / f"{stem}{part}{i:05d}-of-{times:05d}")
        else:
            shutil.copy(file, target / file.name)
    info = json.loads((target / "dataset_info.json").read_text())
    for split in info["splits"]:
        if split["name"] == "train":
            split["shardLengths"] *= times
            split["numBytes"] = str(times * int(split["numBytes"]))
    (target / "dataset_info.json").write_text(json.dumps(info))
