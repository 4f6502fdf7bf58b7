"""Long-tailed splits as Parquet files that plain `load_dataset` reads: one config for each imbalance factor.

A folder holds `<config>/train.parquet`, `<config>/test.parquet` and `splits.json`, which tells what they are. Each row has
the class's shot group and its number of training images beside the label. Images that are not ours to publish stay
where they are: the rows hold their `index` in the source instead.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import datasets
from datasets.table import embed_table_storage
from PIL import Image
from tqdm.auto import tqdm

from tailmoe.training.data.images import check_images
from tailmoe.training.data.long_tailed import Selection, class_counts, label_array, make_long_tailed
from tailmoe.training.data.shot_groups import ShotBounds, shot_groups
from tailmoe.training.data.sources import KNOWN, hub_id
from tailmoe.training.data.splits import load_long_tailed
from tailmoe.training.errors import BadInputError

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
    class_depth: int | None = None,
) -> dict:
    """Write the splits and return the content of `splits.json`; the same arguments write the same bytes.

    Args:
        folder: Written to.
        name: As in `load_long_tailed`.
        imbalance_factors: One config for each; the data as it is if there is none.
        selection, image_column, label_column, config_name, class_depth: As in `load_long_tailed`.

    Raises:
        BadInputError: As `load_long_tailed`, if an imbalance factor is given twice, or if one of the
            user's own images cannot be read.
    """
    if len({_config(factor) for factor in imbalance_factors}) < len(imbalance_factors):
        raise BadInputError(f"Each imbalance factor can be given once, got {', '.join(map(str, imbalance_factors))}.")
    columns = {"image_column": image_column, "label_column": label_column, "config_name": config_name}
    splits = load_long_tailed(name, **columns, class_depth=class_depth)
    if hub_id(name) is None:
        for dataset in splits.values():
            check_images(dataset)
    _, known_image, known_label = KNOWN.get(name, (None, None, None))
    about = {
        "name": name if hub_id(name) is not None else Path(name).expanduser().resolve().name,
        "source": hub_id(name),
        "indexed": name in INDEXED,
        "image_column": image_column or known_image,
        "label_column": label_column or known_label,
        "imbalance_factors": list(imbalance_factors),
        "selection": selection,
        "label_names": splits["train"].features["label"].names,
        "left_out": splits.left_out,
        "num_shared": splits.num_shared,
        "configs": {},
    }
    indexed = {split: rows.add_column("index", range(len(rows))) for split, rows in splits.items()}
    digests = {"test": pixels_sha256(splits["test"]["image"])} if about["indexed"] else None
    for factor in tqdm(imbalance_factors or [None], desc="Writing splits", unit="config", disable=None):
        train = indexed["train"] if factor is None else make_long_tailed(indexed["train"], factor, selection=selection)
        if digests is not None:
            digests = {"train": pixels_sha256(train["image"]), "test": digests["test"]}
        counts = class_counts(train)
        config = _config(factor or max(counts) / min(counts))
        (folder / config).mkdir(parents=True, exist_ok=True)
        for split, rows in (("train", train), ("test", indexed["test"])):
            _table(rows, counts, about["indexed"]).to_parquet(folder / config / f"{split}.parquet")
        about["configs"][config] = {
            "class_counts": counts,
            "shot_bounds": asdict(ShotBounds.of(counts)),
            "num_train": len(train),
            "num_test": len(indexed["test"]),
            "pixels_sha256": digests,
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


def _table(rows: datasets.Dataset, counts: list[int], indexed: bool) -> datasets.Dataset:
    """The rows as they are published; counts and shot groups are those of the training split, in the test split too."""
    group_of = {c: group for group, members in shot_groups(counts).items() for c in members}
    labels = label_array(rows)
    if indexed:
        features = datasets.Features(index=datasets.Value("int64"), label=rows.features["label"])
        rows = datasets.Dataset.from_dict({"index": rows["index"][:], "label": labels}, features=features)
    else:  # image files become part of the data set, of whose paths `to_parquet` would write nothing else
        embed = (
            rows.remove_columns("index").with_format("arrow").map(embed_table_storage, batched=True, batch_size=100)
        )
        rows = embed.with_format(None)
    rows = rows.add_column("shot_group", [group_of[c] for c in labels])
    return rows.add_column("class_count", [counts[c] for c in labels])
