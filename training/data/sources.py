"""Where images come from: the embedded data set, a folder of known data sets, the user's own files, or the Hub."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np

from tailmoe.training.data.columns import find_columns, has_labels, standard_columns
from tailmoe.training.data.long_tailed import (
    Selection,
    check_selection,
    class_counts,
    label_array,
    make_long_tailed,
)
from tailmoe.training.data.streaming import index_rows, parquet_features
from tailmoe.training.data.tables import find_tables, read_table
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
FILES = (".csv", ".parquet")  # no id on the Hub ends so


def load_long_tailed(
    name: str = EMBEDDED,
    imbalance_factor: float | None = None,
    selection: Selection = "first",
    seed: int = 0,
    image_column: str | None = None,
    label_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    validation_per_class: int | None = None,
    streaming: bool = False,
) -> datasets.DatasetDict:
    """The splits `train` (long-tailed) and `test`, with the columns `image` and `label`.

    Args:
        name: `fashion_mnist_lt`, which ships with the project; `cifar10`, `cifar100`, `mnist` or `fashion_mnist`,
            from the folder named by `TAILMOE_DATA_DIR` when it is set, else from the Hub; a folder of images
            (`train/<class>/<image>`) or of Parquet files (`train*.parquet`, at any depth); a Parquet file; a CSV file
            of paths, or a folder with `train.csv`, or with a list of lines `path label` as `ImageNet_LT_train.txt`; or
            the id of a data set on the Hub. Without a labelled split `test`, `validation` is used, else a fifth of
            each class is held out.
        imbalance_factor: Makes the training split long-tailed, see `make_long_tailed`; None leaves it as it is.
        selection, seed: See `make_long_tailed`.
        image_column, label_column: Found by their feature types (Image, ClassLabel) or their content if None.
        config_name: Of a data set on the Hub that has several configs.
        revision: Of a data set on the Hub; what `TAILMOE_DATA_DIR` holds has none.
        validation_per_class: So many images of each class, the last in file order, leave the training split before
            anything else and stand in for the test split: choices are made on them.
        streaming: Leave the images of Parquet files where they are, on disk or on the Hub, and read them batch by batch;
            labels alone are read first. Image files stay where they are anyhow.

    Raises:
        BadInputError: If the data cannot be found, columns are ambiguous, a split is empty, a label is wrong, or an
            argument has no meaning for the data.
    """
    check_selection(selection)
    if name == EMBEDDED and (imbalance_factor is not None or selection != "first"):
        raise BadInputError(
            f"`{EMBEDDED}` has an imbalance factor of 200 already, of the first images: leave `imbalance_factor` and "
            "`selection` out, or use fashion_mnist."
        )
    if name in KNOWN:
        _, known_image, known_label = KNOWN[name]
        image_column, label_column = image_column or known_image, label_column or known_label
    files = _parquet_files(name, config_name, revision) if streaming else None
    if files is None:
        splits = _load(name, config_name, revision, image_column)
    else:
        splits = _streamed(name, *files, image_column, label_column)
    if "train" not in splits:
        raise BadInputError(f"`{name}` has no split `train`; its splits are {', '.join(splits)}.")
    image, label = find_columns(splits["train"], image_column, label_column)
    train = standard_columns(splits["train"], image, label)
    labelled = [split for split in ("test", "validation") if split in splits and has_labels(splits[split], label)]
    if labelled:
        test = standard_columns(splits[labelled[0]], image, label, names=train.features["label"].names)
    else:
        train, test = _hold_out(train)
    if validation_per_class is not None:
        train, test = _validation(train, validation_per_class)
    if imbalance_factor is not None:
        train = make_long_tailed(train, imbalance_factor, selection=selection, seed=seed)
    return datasets.DatasetDict(train=train, test=test)


def hub_id(name: str) -> str | None:
    """Id on the Hub of the images that `load_long_tailed` finds by `name`; None for those of this machine."""
    if name == EMBEDDED:
        name = "fashion_mnist"
    if name in KNOWN:
        return KNOWN[name][0]
    is_id = re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None
    return name if is_id and not name.endswith(FILES) and not Path(name).exists() else None


def _load(name: str, config_name: str | None, revision: str | None, image_column: str | None) -> datasets.DatasetDict:
    if name in KNOWN:
        folder = os.environ.get("TAILMOE_DATA_DIR")
        if folder:
            return _known(name, Path(folder) / name)
        remedy = f"offline, TAILMOE_DATA_DIR can name a folder with {name}/train.parquet and {name}/test.parquet"
        return _read(name, remedy, KNOWN[name][0], config_name, revision=revision)
    path = Path(__file__).parent / EMBEDDED if name == EMBEDDED else Path(name).expanduser()
    for argument, value in (("config_name", config_name), ("revision", revision)):
        if value is not None and path.exists():
            raise BadInputError(
                f"`{argument}` {value} is for a data set on the Hub, and `{name}` lies on this machine."
            )
    if path.is_dir():
        return _folder(name, path, image_column)
    if path.is_file():
        if path.suffix == ".csv":
            return _tables(name, {"train": path}, image_column)
        if path.suffix != ".parquet":
            raise BadInputError(f"`{name}` is no Parquet or CSV file: give one, a folder of images, or a Hub id.")
        return _parquet(name, {"train": [path]})
    if name.startswith((".", "~", "/")) or name.endswith(FILES) or name.count("/") > 1:
        raise BadInputError(f"`{name}` cannot be loaded: there is no such file or folder.")
    remedy = (
        f"give {EMBEDDED}, {', '.join(KNOWN)}, a folder, a Parquet or CSV file or a Hub id, and `config_name` where it has "
        "several configs; offline, TAILMOE_DATA_DIR can name a folder with those by name"
    )
    return _read(name, remedy, name, config_name, revision=revision)


def _parquet_files(
    name: str, config_name: str | None, revision: str | None
) -> tuple[dict[str, list[str]], datasets.Features | None] | None:
    """The Parquet files of each split, and their features where the Hub tells them; None for data of another form."""
    folder = Path(__file__).parent / EMBEDDED if name == EMBEDDED else Path(name).expanduser()
    if name in KNOWN and os.environ.get("TAILMOE_DATA_DIR"):
        folder = Path(os.environ["TAILMOE_DATA_DIR"]) / name
    if folder.is_file() and folder.suffix == ".parquet":
        return {"train": [str(folder)]}, None
    if folder.is_dir():
        found = _parquet_of_splits(folder)
        homes = {file.parent for file in found.get("train", [])}
        return ({split: [*map(str, files)] for split, files in found.items()}, None) if len(homes) == 1 else None
    if hub_id(name) is None:
        return None
    with _telling(name, "give the id of a data set of Parquet files"):
        builder = datasets.load_dataset_builder(hub_id(name), config_name, revision=revision)
    if builder.name != "parquet":
        raise BadInputError(
            f"`{name}` is not of Parquet files, which `streaming` reads: leave it out, or give "
            "`revision` refs/convert/parquet, where the Hub keeps a copy of that form."
        )
    return {str(split): list(files) for split, files in builder.config.data_files.items()}, builder.info.features


def _streamed(
    name: str,
    files: dict[str, list[str]],
    features: datasets.Features | None,
    image_column: str | None,
    label_column: str | None,
) -> datasets.DatasetDict:
    logger.info("Reading the labels of %s; its images are read as they are needed.", name)
    splits = datasets.DatasetDict()
    with _telling(name, "give whole Parquet files with images"):
        for split in sorted(files, key=lambda split: split != "train"):
            kept = features or parquet_features(files[split][0])
            if split == "train":
                empty = datasets.Dataset.from_dict({column: [] for column in kept}, features=kept)
                image_column, label_column = find_columns(empty, image_column, label_column)
            if image_column in kept:
                splits[split] = index_rows(files[split], image_column, label_column, kept)
    return splits


def _known(name: str, folder: Path) -> datasets.DatasetDict:
    """A data set of the folder named by `TAILMOE_DATA_DIR`."""
    files = {split: folder / f"{split}.parquet" for split in ("train", "test")}
    for file in files.values():
        if not file.is_file():
            raise BadInputError(f"TAILMOE_DATA_DIR names a folder without {file}: add it, or unset the variable.")
    return _parquet(name, {split: [file] for split, file in files.items()})


def _folder(name: str, folder: Path, image_column: str | None) -> datasets.DatasetDict:
    """Files `<split>*.parquet` at any depth, as the Hub lays them out; else tables of paths; else images."""
    found = _parquet_of_splits(folder)
    homes = sorted({file.parent for file in found.get("train", [])})
    if len(homes) > 1:
        raise BadInputError(f"`{name}` holds several training splits: give one of its folders, such as {homes[0]}.")
    if homes:
        return _parquet(name, found)
    if tables := find_tables(folder):
        return _tables(name, tables, image_column)
    if any(folder.rglob("*.parquet")):
        raise BadInputError(f"There is no {folder / 'train.parquet'}: Parquet files are found by the names of splits.")
    if not any(path.is_file() for path in folder.rglob("*.*")):
        raise BadInputError(f"`{name}` holds no images: give a folder with train/<class>/<image>.")
    return _read(name, "give a folder with train/<class>/<image>", "imagefolder", data_dir=str(folder))


def _parquet_of_splits(folder: Path) -> dict[str, list[Path]]:
    found = {split: sorted(folder.rglob(f"{split}*.parquet")) for split in ("train", "validation", "test")}
    return {split: files for split, files in found.items() if files}


def _parquet(name: str, files: dict[str, list[Path]]) -> datasets.DatasetDict:
    """Each split by itself: read together, the first file's class names would be given to the labels of the others."""
    splits = datasets.DatasetDict()
    for split, paths in files.items():
        remedy = f"give whole Parquet files with images, look at {paths[0]}"
        splits |= _read(name, remedy, "parquet", data_files={split: [str(path) for path in paths]})
    return splits


def _tables(name: str, tables: dict[str, Path], image_column: str | None) -> datasets.DatasetDict:
    with _telling(name, "give a CSV file with a header, a column of paths and one of labels"):
        return datasets.DatasetDict({split: read_table(table, image_column) for split, table in tables.items()})


def _read(name: str, remedy: str, *args, **kwargs) -> datasets.DatasetDict:
    with _telling(name, remedy):
        return datasets.load_dataset(*args, **kwargs)


@contextlib.contextmanager
def _telling(name: str, remedy: str) -> Iterator[None]:
    """What goes wrong in reading, as an error that names the data and the remedy."""
    try:
        yield
    except BadInputError:
        raise
    except Exception as error:  # Parquet, the file system, the Hub's client and its HTTP library have no common error
        reason = " ".join(str(error.__cause__ or error).split())[:300].rstrip(".!") or type(error).__name__
        raise BadInputError(f"`{name}` cannot be loaded: {reason}; {remedy}.") from error


def _validation(train: datasets.Dataset, per_class: int) -> tuple[datasets.Dataset, datasets.Dataset]:
    """The last images of each class as a split of their own; each class keeps one at least."""
    counts = class_counts(train)
    if not 1 <= per_class < min(counts):
        raise BadInputError(
            f"`validation_per_class` must be at least 1 and less than the {min(counts)} images of the smallest class, "
            f"got {per_class}."
        )
    labels = label_array(train)
    held = np.concatenate([np.flatnonzero(labels == c)[-per_class:] for c in range(len(counts))])
    return train.select(np.setdiff1d(np.arange(len(train)), held)), train.select(np.sort(held))


def _hold_out(train: datasets.Dataset) -> tuple[datasets.Dataset, datasets.Dataset]:
    """A fifth of each class, drawn with a fixed seed, as test split; a single image stays in training."""
    labels, generator, held = label_array(train), np.random.default_rng(0), []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        held.append(rows[: max(round(TEST_SHARE * len(rows)), 1) if len(rows) > 1 else 0])
    held_rows = np.sort(np.concatenate(held))
    if len(held_rows) == 0:
        raise BadInputError("There is no test split, and no class has two images, of which one could be held out.")
    logger.info("No test split: %d of %d images were held out, a fifth of each class.", len(held_rows), len(train))
    return train.select(np.setdiff1d(np.arange(len(train)), held_rows)), train.select(held_rows)
