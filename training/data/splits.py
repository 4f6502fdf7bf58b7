"""Training and test images: the splits of the data, or images held out, and a long tail of the training images."""

import logging

import datasets
import numpy as np

from tailmoe.training.data.duplicates import content_numbers
from tailmoe.training.data.found import Found
from tailmoe.training.data.held_out import hold_out, last_images, without
from tailmoe.training.data.long_tailed import Selection, check_selection, label_array, make_long_tailed
from tailmoe.training.data.sources import EMBEDDED, find_images
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)


class ImageSplits(datasets.DatasetDict):
    """The splits `train` and `test`.

    `left_out` is the number of images of the data that are in neither, by reason; `num_shared` that of the test images whose
    bytes are those of a training image as well, None where bytes are not compared.
    """

    left_out: dict[str, int]
    num_shared: int | None


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
    class_depth: int | None = None,
) -> ImageSplits:
    """The splits `train` (long-tailed) and `test`, with the columns `image` and `label`.

    Args:
        name: `fashion_mnist_lt`, which ships with the project; `cifar10`, `cifar100`, `mnist` or `fashion_mnist`,
            from the folder named by `TAILMOE_DATA_DIR` when it is set, else from the Hub; a folder of images
            (`train/<class>/<image>`) or of Parquet files (`train.parquet` or its shards, at any depth); a Parquet file; a
            CSV or TSV file of paths, or a folder with `train.csv`, or with a list of lines `path label` as
            `ImageNet_LT_train.txt`; or the id of a data set on the Hub. Without a labelled split `test`, `validation` is
            used, else a fifth of each class's images is held out, each with all its copies.
        imbalance_factor: Makes the training split long-tailed, see `make_long_tailed`; None leaves it as it is.
        selection, seed: See `make_long_tailed`.
        image_column, label_column: Found by their feature types (Image, ClassLabel) or their content if None.
        config_name: Of a data set on the Hub that has several configs.
        revision: Of a data set on the Hub; what `TAILMOE_DATA_DIR` holds has none.
        validation_per_class: So many images of each class, the last in file order, leave the training split before
            anything else and stand in for the test split: choices are made on them.
        streaming: Leave the images of Parquet files where they are, on disk or on the Hub, and read them batch by batch;
            labels alone are read first. Image files stay where they are anyhow.
        class_depth: How many folders below the split name the class of an image file: with 2, `apple/healthy`. Deeper
            folders belong to their class. 1 if None.

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
    found = find_images(name, image_column, label_column, config_name, revision, streaming, class_depth)
    found.left_out.tell()
    train, test, contents, test_contents = _train_and_test(name, found)
    if validation_per_class is not None:
        rows = last_images(train, contents, validation_per_class)
        train, test, contents, test_contents = _parted(train, contents, rows)
    if imbalance_factor is not None:
        rows = _long_tailed_rows(train, imbalance_factor, selection, seed)
        train, contents = train.select(rows), contents[rows]
    splits = ImageSplits(train=train, test=test)
    splits.left_out = found.left_out.counts()
    splits.num_shared = _count_shared(test, contents, test_contents) if found.comparable else None
    return splits


def load_split(name: str, split: str | None = None, **options: str | int | None) -> datasets.Dataset:
    """All images of a split as they are, with the columns `image` and `label`; nothing is held out.

    Args:
        name: As in `load_long_tailed`.
        split: `train`, `validation` or `test`. If None: all images where the data has no splits, else `test`, else
            `validation`.
        **options: Columns, config, revision and class depth, as in `load_long_tailed`.

    Raises:
        BadInputError: As `load_long_tailed`, or if there is no such split.
    """
    found = find_images(name, **options)
    found.left_out.tell()
    labelled = found.labelled()
    if split is not None and not found.has_splits:
        raise BadInputError(f"`{name}` has no splits, of which {split} could be measured: leave `--split` out.")
    chosen = split or next((each for each in ("test", "validation") if each in labelled), None)
    chosen = chosen if found.has_splits else "train"
    if chosen not in labelled:
        raise BadInputError(
            f"`{name}` has no split `{chosen or 'test'}` with labels; those with labels: {', '.join(labelled) or 'none'}. "
            "`--split` names another one."
        )
    rows = found.standard(chosen)
    if chosen != "train" and "train" in labelled and found.comparable:
        _count_shared(rows, *content_numbers([found.standard("train"), rows]))
    logger.info("Measuring %d images: %s of %s", len(rows), f"split {chosen}" if found.has_splits else "all", name)
    return rows


def _train_and_test(name: str, found: Found) -> tuple[datasets.Dataset, datasets.Dataset, np.ndarray, np.ndarray]:
    """Both splits, and the numbers of the contents of their images."""
    if "train" not in found.splits:
        raise BadInputError(f"`{name}` has no split `train`; its splits are {', '.join(found.splits)}.")
    parts = [found.standard("train")]
    _check_several_classes(parts[0])
    labelled = found.labelled()
    if held := [split for split in ("test", "validation") if split in labelled]:
        parts.append(found.standard(held[0], names=parts[0].features["label"].names))
        if found.form == "folders":
            _check_classes(*parts, held[0])
    if found.comparable:
        contents = content_numbers(parts)
    else:
        contents = np.split(np.arange(sum(map(len, parts))), [len(parts[0])])
    if not held:
        return _parted(parts[0], contents[0], hold_out(parts[0], contents[0]))
    return *parts, *contents


def _check_several_classes(train: datasets.Dataset) -> None:
    labels = np.unique(label_array(train))
    if len(labels) == 1:
        raise BadInputError(
            f"All {len(train):,} training images are of one class, `{train.features['label'].names[labels[0]]}`: there is nothing "
            "to tell apart. Give images of another class, or look at the column or the folders of the labels by `tailmoe data`."
        )


def _check_classes(train: datasets.Dataset, test: datasets.Dataset, split: str) -> None:
    unknown = np.flatnonzero(~np.isin(label_array(test), label_array(train)))
    if len(unknown):
        row = test.cast_column("image", datasets.Image(decode=False))[int(unknown[0])]
        path, name = row["image"]["path"], test.features["label"].names[row["label"]]
        raise BadInputError(
            f"Class `{name}` of the {split} split is not among the classes of the training split ({path}): give it training "
            "images, or move the folder away."
        )


def _parted(
    train: datasets.Dataset, contents: np.ndarray, rows: np.ndarray
) -> tuple[datasets.Dataset, datasets.Dataset, np.ndarray, np.ndarray]:
    return without(train, rows), train.select(rows), np.delete(contents, rows), contents[rows]


def _long_tailed_rows(train: datasets.Dataset, imbalance_factor: float, selection: Selection, seed: int) -> np.ndarray:
    labels = datasets.Dataset.from_dict(
        {"label": label_array(train), "row": np.arange(len(train))},
        features=datasets.Features(label=train.features["label"], row=datasets.Value("int64")),
    )
    return np.asarray(make_long_tailed(labels, imbalance_factor, selection=selection, seed=seed)["row"][:])


def _count_shared(test: datasets.Dataset, contents: np.ndarray, test_contents: np.ndarray) -> int:
    """Test images whose bytes are those of a training image; they are logged."""
    shared = np.flatnonzero(np.isin(test_contents, contents))
    if len(shared):
        first = test.cast_column("image", datasets.Image(decode=False))[int(shared[0])]["image"]["path"]
        logger.warning(
            "Of %d test images, %d are among the training images too, byte for byte%s: accuracy on them tells nothing.",
            *(len(test), len(shared), f" (such as {first})" if first else ""),
        )
    return len(shared)
