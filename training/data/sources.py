"""Where images come from: the embedded data set, a folder of known data sets, the user's own files, or the Hub."""

import logging
import os
from pathlib import Path
from typing import Literal

import datasets
import numpy as np

from tailmoe.training.data.long_tailed import make_long_tailed
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
EMBEDDED = "fashion_mnist_lt"
# name: (Hub id, image column, label column)
KNOWN = {
    "cifar10": ("uoft-cs/cifar10", "img", "label"),
    "cifar100": ("uoft-cs/cifar100", "img", "fine_label"),
    "mnist": ("ylecun/mnist", "image", "label"),
    "fashion_mnist": ("zalando-datasets/fashion_mnist", "image", "label"),
}
TEST_SHARE = 0.2


def load_long_tailed(
    name: str = EMBEDDED,
    imbalance_factor: float | None = None,
    selection: Literal["first", "shuffled"] = "first",
    seed: int = 0,
    image_column: str | None = None,
    label_column: str | None = None,
    revision: str | None = None,
) -> datasets.DatasetDict:
    """The splits `train` (long-tailed) and `test`, with the columns `image` and `label`.

    Args:
        name: `fashion_mnist_lt`, which ships with the project; `cifar10`, `cifar100`, `mnist` or `fashion_mnist`,
            from the folder named by `TAILMOE_DATA_DIR` when it is set, else from the Hub; a folder of images
            (`train/<class>/<image>`) or of Parquet files; a Parquet file; or the id of a data set on the Hub. Without
            a split `test`, `validation` is used, else a fifth of each class is held out.
        imbalance_factor: Makes the training split long-tailed, see `make_long_tailed`; None leaves it as it is.
        selection, seed: See `make_long_tailed`.
        image_column, label_column: Found by their feature types (Image, ClassLabel) if None.
        revision: Of a data set on the Hub.

    Raises:
        BadInputError: If the data cannot be found, columns are ambiguous, or a split is empty.
    """
    if name == EMBEDDED and imbalance_factor is not None:
        raise BadInputError(
            f"`{EMBEDDED}` has an imbalance factor of 200 already: leave `imbalance_factor` out, or use fashion_mnist."
        )
    splits = _load(name, revision)
    if name in KNOWN:
        _, known_image, known_label = KNOWN[name]
        image_column, label_column = image_column or known_image, label_column or known_label
    train = _standard_columns(splits["train"], image_column, label_column)
    held_out = splits.get("test", splits.get("validation"))
    if held_out is None:
        train, test = _hold_out(train)
    else:
        test = _standard_columns(held_out, image_column, label_column)
    if train.features["label"].names != test.features["label"].names:
        raise BadInputError(f"The classes of `{name}` differ between its training and its test split.")
    if imbalance_factor is not None:
        train = make_long_tailed(train, imbalance_factor, selection=selection, seed=seed)
    return datasets.DatasetDict(train=train, test=test)


def _load(name: str, revision: str | None) -> datasets.DatasetDict:
    if name == EMBEDDED:
        return _parquet(Path(__file__).parent / EMBEDDED)
    folder = os.environ.get("TAILMOE_DATA_DIR")
    if name in KNOWN and folder:
        return _parquet(Path(folder) / name, "TAILMOE_DATA_DIR names a folder without")
    path = Path(name)
    if path.is_dir():
        if any(path.rglob("*.parquet")):
            return _parquet(path)
        if not any(path.rglob("*.*")):
            raise BadInputError(f"`{name}` holds no images: give a folder with train/<class>/<image>.")
        return _read(name, "imagefolder", data_dir=name)
    if path.is_file():
        if path.suffix != ".parquet":
            raise BadInputError(f"`{name}` is not a Parquet file: give a folder of images, Parquet or a Hub id.")
        return _read(name, "parquet", data_files={"train": name})
    hub_id = KNOWN[name][0] if name in KNOWN else name
    return _read(name, hub_id, revision=revision)


def _parquet(folder: Path, complaint: str = "There is no") -> datasets.DatasetDict:
    """Files `<split>*.parquet` of a folder, or of its `data` folder, as the Hub lays them out."""
    files = {}
    for split in ("train", "validation", "test"):
        found = sorted(str(path) for path in folder.rglob(f"{split}*.parquet"))
        if found:
            files[split] = found
    if "train" not in files:
        raise BadInputError(f"{complaint} {folder / 'train.parquet'}.")
    return _read(str(folder), "parquet", data_files=files)


def _read(name: str, *args, **kwargs) -> datasets.DatasetDict:
    try:
        loaded = datasets.load_dataset(*args, **kwargs)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BadInputError(
            f"`{name}` cannot be loaded: {reason}. Give {EMBEDDED}, a folder, a Parquet file or a Hub id; offline, "
            f"TAILMOE_DATA_DIR can name a folder with {', '.join(KNOWN)}."
        ) from None
    if "train" not in loaded:
        raise BadInputError(f"`{name}` has no split `train`; its splits are {', '.join(loaded)}.")
    return loaded


def _standard_columns(
    dataset: datasets.Dataset, image_column: str | None, label_column: str | None
) -> datasets.Dataset:
    """The data set with an Image column `image` and a ClassLabel column `label`, and no other."""
    if len(dataset) == 0:
        raise BadInputError("The split is empty: it has no image.")
    image = image_column or _column_of_type(dataset, datasets.Image, "image_column")
    label = label_column or _column_of_type(dataset, datasets.ClassLabel, "label_column")
    for column in (image, label):
        if column not in dataset.column_names:
            raise BadInputError(f"There is no column `{column}`; the columns are {', '.join(dataset.column_names)}.")
    dataset = dataset.select_columns([image, label])
    dataset = dataset.rename_columns({old: new for old, new in ((image, "image"), (label, "label")) if old != new})
    if not isinstance(dataset.features["image"], datasets.Image):
        raise BadInputError(f"Column `{image}` holds {dataset.features['image']}, not images.")
    if not isinstance(dataset.features["label"], datasets.ClassLabel):
        dataset = dataset.class_encode_column("label")
    return dataset


def _column_of_type(dataset: datasets.Dataset, feature_type: type, argument: str) -> str:
    columns = [name for name, feature in dataset.features.items() if isinstance(feature, feature_type)]
    if not columns and feature_type is datasets.ClassLabel:  # names or numbers, when the column says what it is
        columns = [name for name in ("label", "labels") if name in dataset.column_names]
    if len(columns) != 1:
        found = f"could be {' or '.join(columns)}" if columns else f"is none of {', '.join(dataset.column_names)}"
        raise BadInputError(f"The {argument.replace('_', ' ')} {found}: name it with `--set data.{argument}=...`.")
    return columns[0]


def _hold_out(train: datasets.Dataset) -> tuple[datasets.Dataset, datasets.Dataset]:
    """A fifth of each class, drawn with a fixed seed, as test split; a single image stays in training."""
    labels, generator, held = np.asarray(train["label"]), np.random.default_rng(0), []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        held.append(rows[: max(round(TEST_SHARE * len(rows)), 1) if len(rows) > 1 else 0])
    held_rows = np.sort(np.concatenate(held))
    logger.info("No test split: %d of %d images were held out, a fifth of each class.", len(held_rows), len(train))
    return train.select(np.setdiff1d(np.arange(len(train)), held_rows)), train.select(held_rows)
