"""Where images come from: the embedded data set, a folder of known data sets, the user's own files, or the Hub."""

import logging
import os
import re
from pathlib import Path

import datasets
import huggingface_hub

from tailmoe.training.data.archives import READ_ARCHIVES
from tailmoe.training.data.columns import find_columns
from tailmoe.training.data.found import Found
from tailmoe.training.data.local_files import (
    ARCHIVES,
    Columns,
    read_local_file,
    read_local_folder,
    read_parquet,
    telling,
)
from tailmoe.training.data.shards import files_of_splits
from tailmoe.training.data.streaming import index_rows, parquet_features
from tailmoe.training.data.table_rows import DELIMITED
from tailmoe.training.data.tables import METADATA, check_one_label
from tailmoe.training.data.tree import LeftOut, read_tree
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
FILES = (*DELIMITED, *READ_ARCHIVES, ".txt", ".parquet")  # no id on the Hub ends so


def find_images(
    name: str,
    image_column: str | None = None,
    label_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    class_depth: int | None = None,
) -> Found:
    """The images that a name stands for, each in the split and class where it lies, or counted as left out.

    Args, Raises: As `load_long_tailed`.
    """
    if name in KNOWN:
        _, known_image, known_label = KNOWN[name]
        image_column, label_column = image_column or known_image, label_column or known_label
    files = _parquet_files(name, config_name, revision) if streaming else None
    if files is not None:
        found = _streamed(name, *files, image_column, label_column)
    else:
        found = _load(name, config_name, revision, (image_column, label_column), class_depth)
    if class_depth is not None and found.form != "folders":
        raise BadInputError(
            f"`class_depth` {class_depth} is of class folders, and the classes of `{name}` are in a column."
        )
    reference = found.splits.get("train") or next(iter(found.splits.values()))
    found.columns = find_columns(reference, image_column, label_column)
    if found.form == "tables":
        check_one_label(found.splits, *found.columns)
    return found


def hub_id(name: str) -> str | None:
    """Id on the Hub of the images that `load_long_tailed` finds by `name`; None for those of this machine."""
    if name == EMBEDDED:
        name = "fashion_mnist"
    if name in KNOWN:
        return KNOWN[name][0]
    is_id = re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None
    return name if is_id and not name.endswith(FILES) and not Path(name).exists() else None


def _load(
    name: str, config_name: str | None, revision: str | None, columns: Columns, class_depth: int | None
) -> Found:
    if name in KNOWN:
        folder = os.environ.get("TAILMOE_DATA_DIR")
        if folder:
            return _known(name, Path(folder) / name)
        remedy = f"offline, TAILMOE_DATA_DIR can name a folder with {name}/train.parquet and {name}/test.parquet"
        return _read_hub(name, remedy, KNOWN[name][0], config_name, revision, class_depth)
    path = Path(__file__).parent / EMBEDDED if name == EMBEDDED else Path(name).expanduser()
    for argument, value in (("config_name", config_name), ("revision", revision)):
        if value is not None and path.exists():
            raise BadInputError(
                f"`{argument}` {value} is for a data set on the Hub, and `{name}` lies on this machine."
            )
    if path.is_dir():
        return read_local_folder(name, path, columns, class_depth)
    if path.is_file():
        return read_local_file(name, path, columns, class_depth)
    if name.startswith((".", "~", "/")) or name.endswith(FILES) or name.count("/") > 1:
        raise BadInputError(f"`{name}` cannot be loaded: there is no such file or folder.")
    remedy = (
        f"give {EMBEDDED}, {', '.join(KNOWN)}, a folder, a Parquet, CSV, TSV, ZIP or TAR file or a Hub id, and `config_name` where it has "
        "several configs; offline, TAILMOE_DATA_DIR can name a folder with those by name"
    )
    return _read_hub(name, remedy, name, config_name, revision, class_depth)


def _read_hub(
    name: str, remedy: str, repo_id: str, config_name: str | None, revision: str | None, class_depth: int | None
) -> Found:
    with telling(name, remedy):
        builder = datasets.load_dataset_builder(repo_id, config_name, revision=revision)
        if builder.name == "imagefolder" and _holds_class_folders(repo_id, revision):
            folder = huggingface_hub.snapshot_download(repo_id, repo_type="dataset", revision=revision)
            return read_local_folder(name, Path(folder), (None, None), class_depth)
        builder.download_and_prepare()
        return Found(dict(builder.as_dataset()))


def _holds_class_folders(repo_id: str, revision: str | None) -> bool:
    """Whether nothing but the names of folders tells splits and classes: no card, table or archive."""
    info = huggingface_hub.HfApi().dataset_info(repo_id, revision=revision)
    names = [sibling.rfilename.lower() for sibling in info.siblings]
    return "configs" not in (info.card_data or {}) and not any(
        name.endswith((*METADATA, *ARCHIVES, "metadata.parquet")) for name in names
    )


def _parquet_files(
    name: str, config_name: str | None, revision: str | None
) -> tuple[dict[str, list[str]], datasets.Features | None] | None:
    """The Parquet files of each split, and their features where the Hub tells them; None for data of another form."""
    folder = Path(__file__).parent / EMBEDDED if name == EMBEDDED else Path(name).expanduser()
    if name in KNOWN and os.environ.get("TAILMOE_DATA_DIR"):
        folder = Path(os.environ["TAILMOE_DATA_DIR"]) / name
    if folder.is_file() and folder.suffix.lower() == ".parquet":
        return {"train": [str(folder)]}, None
    if folder.is_dir():
        found = files_of_splits(folder, read_tree(folder, LeftOut()).all_others())
        return ({split: [*map(str, files)] for split, files in found.items()}, None) if found else None
    if hub_id(name) is None:
        return None
    with telling(name, "give the id of a data set of Parquet files"):
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
) -> Found:
    logger.info("Reading the labels of %s; its images are read as they are needed.", name)
    splits = {}
    with telling(name, "give whole Parquet files with images"):
        for split in sorted(files, key=lambda split: split != "train"):
            kept = features or parquet_features(files[split][0])
            if split == "train":
                empty = datasets.Dataset.from_dict({column: [] for column in kept}, features=kept)
                image_column, label_column = find_columns(empty, image_column, label_column)
            if image_column in kept:
                splits[split] = index_rows(files[split], image_column, label_column, kept)
    return Found(splits, comparable=False)


def _known(name: str, folder: Path) -> Found:
    """A data set of the folder named by `TAILMOE_DATA_DIR`."""
    files = {split: folder / f"{split}.parquet" for split in ("train", "test")}
    for file in files.values():
        if not file.is_file():
            raise BadInputError(f"TAILMOE_DATA_DIR names a folder without {file}: add it, or unset the variable.")
    return Found(read_parquet(name, {split: [file] for split, file in files.items()}))
