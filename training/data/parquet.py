"""Long-tailed splits as Parquet files that plain `load_dataset` reads: one config for each imbalance factor.

A folder holds `<config>/train.parquet`, `<config>/test.parquet` and `splits.json`, which tells what they are. Each row has
the class's shot group and its number of training images beside the label. Images that are not ours to publish stay
where they are: the rows hold their `index` in the source instead.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import datasets
import numpy as np
from datasets.table import embed_table_storage
from PIL import Image
from tqdm.auto import tqdm

from tailmoe.training.data.images import check_images
from tailmoe.training.data.long_tailed import Selection, class_counts, label_array, long_tailed_rows
from tailmoe.training.data.sources import KNOWN, hub_id, load_long_tailed
from tailmoe.training.errors import BadInputError
from tailmoe.training.metrics import shot_groups

SPLITS_NAME = "splits.json"
INDEXED = ("cifar10", "cifar100", "mnist")  # without a licence that lets anyone publish them again


def write_splits(
    folder: Path,
    name: str,
    imbalance_factors: Sequence[float] = (),
    selection: Selection = "first",
    image_column: str | None = None,
    label_column: str | None = None,
    config_name: str | None = None,
) -> dict:
    """Write the splits and return the content of `splits.json`; the same arguments write the same bytes.

    Args:
        folder: Written to.
        name: As in `load_long_tailed`.
        imbalance_factors: One config for each; the data as it is if there is none.
        selection, image_column, label_column, config_name: As in `load_long_tailed`.

    Raises:
        BadInputError: As `load_long_tailed` and `long_tailed_rows`, if an imbalance factor is given twice, or if one of the
            user's own images cannot be read.
    """
    if len({_config(factor) for factor in imbalance_factors}) < len(imbalance_factors):
        raise BadInputError(f"Each imbalance factor can be given once, got {', '.join(map(str, imbalance_factors))}.")
    if name in KNOWN:
        _, known_image, known_label = KNOWN[name]
        image_column, label_column = image_column or known_image, label_column or known_label
    splits = load_long_tailed(name, image_column=image_column, label_column=label_column, config_name=config_name)
    if hub_id(name) is None:
        for dataset in splits.values():
            check_images(dataset)
    about = {
        "name": name if hub_id(name) is not None else Path(name).expanduser().resolve().name,
        "source": hub_id(name),
        "indexed": name in INDEXED,
        "image_column": image_column,
        "label_column": label_column,
        "imbalance_factors": list(imbalance_factors),
        "selection": selection,
        "label_names": splits["train"].features["label"].names,
        "configs": {},
    }
    for factor in tqdm(imbalance_factors or [None], desc="Writing splits", unit="config", disable=None):
        rows = {split: np.arange(len(dataset)) for split, dataset in splits.items()}
        if factor is not None:
            rows["train"] = long_tailed_rows(splits["train"], factor, selection=selection)
        counts = class_counts(splits["train"].select(rows["train"]))
        config = _config(factor or max(counts) / min(counts))
        digests = {}
        for split, dataset in splits.items():
            table = _table(dataset.select(rows[split]), rows[split], counts, name in INDEXED)
            (folder / config).mkdir(parents=True, exist_ok=True)
            table.to_parquet(folder / config / f"{split}.parquet")
            if name in INDEXED:
                digests[split] = pixels_sha256(dataset.select(rows[split])["image"])
        about["configs"][config] = {
            "class_counts": counts,
            "num_train": len(rows["train"]),
            "num_test": len(rows["test"]),
            "pixels_sha256": digests or None,
        }
    (folder / SPLITS_NAME).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return about


def pixels_sha256(images: Iterable[Image.Image]) -> str:
    """SHA-256 of the decoded pixels of images, one after another."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.tobytes())
    return digest.hexdigest()


def _config(imbalance_factor: float) -> str:
    return f"imbalance_factor_{imbalance_factor:.4g}"


def _table(dataset: datasets.Dataset, rows: np.ndarray, counts: list[int], indexed: bool) -> datasets.Dataset:
    """The rows as they are published; counts and shot groups are those of the training split, in the test split too."""
    group_of = {c: group for group, members in shot_groups(counts).items() for c in members}
    labels = label_array(dataset)
    if indexed:
        features = datasets.Features(index=datasets.Value("int64"), label=dataset.features["label"])
        dataset = datasets.Dataset.from_dict({"index": rows, "label": labels}, features=features)
    else:  # image files become part of the data set, of whose paths `to_parquet` would write nothing else
        embed = dataset.with_format("arrow").map(embed_table_storage, batched=True, batch_size=100)
        dataset = embed.with_format(None)
    dataset = dataset.add_column("shot_group", [group_of[c] for c in labels])
    return dataset.add_column("class_count", [counts[c] for c in labels])
