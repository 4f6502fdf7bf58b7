"""Which columns of a data set hold its images and labels, and what its classes are."""

import re
import sys

import datasets

from tailmoe.training.data.long_tailed import check_range, label_array
from tailmoe.training.data.streaming import PLACE, has_places
from tailmoe.training.errors import BadInputError

LABELS = ("label", "labels")  # columns that say by their names what they are
CLASS_TYPES = ("string", "large_string", "int", "uint", "bool")  # that a label column of no ClassLabel may have


def find_columns(dataset: datasets.Dataset, image_column: str | None, label_column: str | None) -> tuple[str, str]:
    """Names of the image and the label column: those given, else the only ones of types Image and ClassLabel.

    Where there is no ClassLabel, the column `label` or `labels` is taken.

    Raises:
        BadInputError: If none or several columns could be meant, or one that is given does not exist.
    """
    columns = (
        image_column or _column_of_type(dataset, datasets.Image, "image_column"),
        label_column or _column_of_type(dataset, datasets.ClassLabel, "label_column"),
    )
    for column in columns:
        if column not in dataset.column_names:
            raise BadInputError(f"There is no column `{column}`; the columns are {', '.join(dataset.column_names)}.")
    if columns[0] == columns[1]:
        raise BadInputError(f"Column `{columns[0]}` cannot hold both the images and the labels: name two columns.")
    return columns


def own_columns(features: datasets.Features) -> tuple[str, str]:
    """The columns of images and labels of a data set that a Trainer was given: `image` and `label`, else those of the types.

    Where there is no ClassLabel, the column `labels` is taken.

    Raises:
        BadInputError: If none or several could be meant.
    """
    found = []
    for name, kind in (("image", datasets.Image), ("label", datasets.ClassLabel)):
        columns = [column for column, feature in features.items() if isinstance(feature, kind)]
        if name in features and (name in columns or not columns):
            columns = [name]
        if not columns and name == "label" and "labels" in features:
            columns = ["labels"]
        if len(columns) != 1:
            of = f"could be {' or '.join(columns)}" if columns else f"is none of {', '.join(features)}"
            raise BadInputError(
                f"The {name} column {of}: `rename_column` makes one `{name}`, of type {kind.__name__}."
            )
        found += columns
    return tuple(found)


def with_own_columns(dataset: datasets.Dataset) -> datasets.Dataset:
    """The data set with its images and labels in the columns `image` and `label`; raises `BadInputError` as `own_columns`."""
    columns = own_columns(dataset.features)
    if columns == ("image", "label"):
        return dataset
    kept = dataset.select_columns([*columns, *([PLACE] if has_places(dataset) else [])])
    renamed = dict(zip(columns, ("image", "label"), strict=True))
    return kept.rename_columns({old: new for old, new in renamed.items() if old != new})


def has_labels(dataset: datasets.Dataset, label_column: str) -> bool:
    """Whether any row is labelled; test splits of public challenges are not, or have the label -1 throughout."""
    return label_column in dataset.column_names and not set(dataset[label_column][:]) <= {-1, "-1", None}


def standard_columns(
    dataset: datasets.Dataset, image_column: str, label_column: str, names: list[str] | None = None
) -> datasets.Dataset:
    """The data set with an Image column `image` and a ClassLabel column `label`, and no other but the places of images.

    Args:
        dataset: A split.
        image_column: Of type Image.
        label_column: Of type ClassLabel, or class names or numbers, whose sorted values become the classes.
        names: The classes it must have, those of the training split.

    Raises:
        BadInputError: If the split is empty, a column is missing or of another type, a label is missing or out of
            range, or the classes differ from `names`.
    """
    if len(dataset) == 0:
        raise BadInputError("The split is empty: it has no image.")
    find_columns(dataset, image_column, label_column)
    if not isinstance(dataset.features[image_column], datasets.Image):
        raise BadInputError(
            f"Column `{image_column}` holds {dataset.features[image_column]}, not images: "
            f"`dataset.cast_column({image_column!r}, datasets.Image())` makes them so."
        )
    dataset = dataset.select_columns([image_column, label_column, *([PLACE] if has_places(dataset) else [])])
    if not isinstance(dataset.features[label_column], datasets.ClassLabel):
        dataset = _encode_classes(dataset, label_column, names)
    found = dataset.features[label_column].names
    if names is not None and found != names:
        differing = sorted(set(found) ^ set(names)) or ["in another order"]
        raise BadInputError(f"The classes differ between its training and its test split: {', '.join(differing[:5])}.")
    check_range(label_array(dataset, label_column), len(found))
    renamed = {image_column: "image", label_column: "label"}
    return dataset.rename_columns({old: new for old, new in renamed.items() if old != new})


def _column_of_type(dataset: datasets.Dataset, feature_type: type, argument: str) -> str:
    columns = [name for name, feature in dataset.features.items() if isinstance(feature, feature_type)]
    if not columns and feature_type is datasets.ClassLabel:  # names or numbers, when the column says what it is
        columns = [name for name in LABELS if name in dataset.column_names]
    if len(columns) != 1:
        found = f"could be {' or '.join(columns)}" if columns else f"is none of {', '.join(dataset.column_names)}"
        remedy = f"name it with `--set data.{argument}=...`"
        if not columns and feature_type is datasets.ClassLabel:
            remedy += ", or sort the images into folders train/<class>"
        raise BadInputError(f"The {argument.replace('_', ' ')} {found}: {remedy}.")
    return columns[0]


def _number_or_name(value: str) -> tuple[int, str]:
    """Sorts numbers as such, 10 after 9 and 1 beside 01, then names."""
    return (int(value), value) if re.fullmatch(r"-?[0-9]+", value) else (sys.maxsize, value)


def _encode_classes(dataset: datasets.Dataset, column: str, names: list[str] | None) -> datasets.Dataset:
    """Class names or numbers as ClassLabel. Unlike `class_encode_column`, 10 follows 9 and images are not copied."""
    feature, values = dataset.features[column], dataset[column][:]
    if None in values:  # a number beside it is read as float
        raise BadInputError(f"Row {values.index(None)} has no label: column `{column}` is empty there.")
    if not (isinstance(feature, datasets.Value) and feature.dtype.startswith(CLASS_TYPES)):
        raise BadInputError(f"Column `{column}` holds {feature}: labels must be class names or whole numbers.")
    if names is None:
        names = sorted({str(value) for value in values}, key=_number_or_name)
    index = {name: number for number, name in enumerate(names)}
    unknown = sorted({str(value) for value in values} - set(names))
    if unknown:
        raise BadInputError(f"Class `{unknown[0]}` of the test split is not among the classes of the training split.")
    numbers = [index[str(value)] for value in values]
    feature = datasets.ClassLabel(names=names)
    return dataset.remove_columns(column).add_column(column, numbers, feature=feature)
