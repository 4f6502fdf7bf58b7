"""Builds the images of a config of this data set, whose rows tell where in their source the images are.

Needs the package datasets alone. For each config that the card names:

    python build.py imbalance_factor_100 images

writes images/train.parquet and images/test.parquet, after it has made sure that these are the very images.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import datasets

HERE = Path(__file__).parent


def build(config: str) -> datasets.DatasetDict:
    """The splits of a config: the columns image, label, shot_group and class_count."""
    about = json.loads((HERE / "splits.json").read_text(encoding="utf-8"))
    if config not in about["configs"]:
        sys.exit(f"There is no config {config}: give one of {', '.join(about['configs'])}.")
    source = datasets.load_dataset(about["source"])
    built = datasets.DatasetDict()
    for split, sha256 in about["configs"][config]["pixels_sha256"].items():
        rows = datasets.Dataset.from_parquet(str(HERE / config / f"{split}.parquet"))
        images = source[split].select(rows["index"])
        digest = hashlib.sha256()
        for image in images[about["image_column"]]:
            digest.update(image.tobytes())
        if digest.hexdigest() != sha256 or images[about["label_column"]][:] != rows["label"][:]:
            sys.exit(f"{about['source']} no longer holds the images that split {split} of {config} was made from.")
        images = images.select_columns(about["image_column"]).rename_column(about["image_column"], "image")
        built[split] = datasets.concatenate_datasets([images, rows.remove_columns("index")], axis=1)
    return built


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="CONFIG", help="such as imbalance_factor_100")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder written to")
    args = parser.parse_args()
    for split, dataset in build(args.config).items():
        args.output.mkdir(parents=True, exist_ok=True)
        dataset.to_parquet(args.output / f"{split}.parquet")
