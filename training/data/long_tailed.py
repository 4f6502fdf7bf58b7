"""Long-tailed subsets of a data set, by the field's CIFAR-LT protocol (Cui et al., CVPR 2019)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Protocol

import datasets
import numpy as np

from tailmoe.training.errors import BadInputError

if TYPE_CHECKING:
    from torch import Tensor

Selection = Literal["first", "shuffled"]


class Labelled(Protocol):
    """A split in memory, with its class ids."""

    labels: Tensor


def long_tailed_counts(num_classes: int, max_count: int, imbalance_factor: float) -> list[int]:
    """Images of each class: `n_c = int(max_count * imbalance_factor^(-c / (C - 1)))`, class 0 the largest.

    Args:
        num_classes: C, at least 1.
        max_count: Images of the largest class, at least 1.
        imbalance_factor: Largest over smallest class, at least 1.

    Raises:
        BadInputError: If a value is below its least, or a class would be left without an image.
    """
    for name, value in (
        ("num_classes", num_classes),
        ("max_count", max_count),
        ("imbalance_factor", imbalance_factor),
    ):
        if not value >= 1:
            raise BadInputError(f"`{name}` must be at least 1, got {value}.")
    counts = [int(max_count * share) for share in _shares(num_classes, imbalance_factor)]
    if counts[-1] < 1:
        # 49 * (1 / 49) is just below 1, as it is for some other numbers
        most = max_count if int(max_count * (1 / max_count)) else max_count - 1
        raise BadInputError(
            f"`imbalance_factor` {imbalance_factor:g} would leave the smallest class without an image: with "
            f"{max_count} in the largest, give at most {most}."
        )
    return counts


def _shares(num_classes: int, imbalance_factor: float) -> list[float]:
    """Size of each class relative to class 0."""
    # the published splits come from this very expression; another order of operations rounds other counts
    return [(1 / imbalance_factor) ** (c / max(num_classes - 1.0, 1.0)) for c in range(num_classes)]


def make_long_tailed(
    dataset: datasets.Dataset,
    imbalance_factor: float,
    label_column: str = "label",
    selection: Selection = "first",
    seed: int = 0,
    max_count: int | None = None,
) -> datasets.Dataset:
    """A long-tailed subset; whatever the selection, its rows are in the order of the file.

    Args:
        dataset: With a label column of type ClassLabel.
        imbalance_factor: Largest over smallest class, at least 1.
        label_column: Name of that column.
        selection: `"first"` keeps the first images of each class in file order (ICL-MoE, SHIKE); `"shuffled"` those
            of a random order, class after class, from one numpy generator (RIDE, BCL, PaCo use seed 0).
        seed: Of the random order.
        max_count: Images of class 0; the most that leaves enough images for every class if None.

    Raises:
        BadInputError: If a class has too few images, or an argument is wrong.
    """
    check_selection(selection)
    available = class_counts(dataset, label_column=label_column)
    if max_count is None:
        max_count = _largest_profile(available, imbalance_factor)
    counts = long_tailed_counts(len(available), max_count, imbalance_factor)
    for c, (wanted, present) in enumerate(zip(counts, available, strict=True)):
        if wanted > present:
            raise BadInputError(
                f"Class {c} has {present} images, {wanted} were asked for: lower `max_count` ({max_count})."
            )
    labels = label_array(dataset, label_column)
    generator = np.random.RandomState(seed)  # the published splits were drawn from this generator
    kept = []
    for c, wanted in enumerate(counts):
        rows = np.flatnonzero(labels == c)
        if selection == "shuffled":
            generator.shuffle(rows)
        kept.append(rows[:wanted])
    return dataset.select(np.sort(np.concatenate(kept)))


def check_selection(selection: str) -> None:
    """Raise `BadInputError` unless there is such a selection."""
    if selection not in ("first", "shuffled"):
        raise BadInputError(f"`selection` must be first or shuffled, got {selection}.")


def class_counts(
    dataset: datasets.Dataset | Labelled, num_classes: int | None = None, label_column: str = "label"
) -> list[int]:
    """Images of each class.

    Args:
        dataset: A `datasets.Dataset`, or a split in memory, such as `DecodedImages`.
        num_classes: Number of classes; if None that of the ClassLabel column, or one more than the largest label.
        label_column: Name of the label column.

    Raises:
        BadInputError: If there is no image at all, a label is missing or out of range, or a class has no image.
    """
    if isinstance(dataset, datasets.Dataset):
        labels = label_array(dataset, label_column)
        feature = dataset.features[label_column]
        if num_classes is None and not isinstance(feature, datasets.ClassLabel):
            raise BadInputError(f"Column `{label_column}` must be of type ClassLabel, got {feature}.")
        num_classes = num_classes or feature.num_classes
    else:
        labels = dataset.labels.cpu().numpy()
        num_classes = num_classes or int(labels.max(initial=0)) + 1
    return counts_of_labels(labels, num_classes)


def counts_of_labels(labels: np.ndarray | Tensor, num_classes: int) -> list[int]:
    """Images of each class by their labels (N,); raises `BadInputError` as `class_counts`."""
    labels = np.asarray(labels)
    if len(labels) == 0:
        raise BadInputError("The split is empty: it has no image.")
    check_range(labels, num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    if counts.min() == 0:
        raise BadInputError(
            f"Class {int(counts.argmin())} has no training image: remove it from the labels or give it images."
        )
    return counts.tolist()


def label_array(dataset: datasets.Dataset, label_column: str = "label") -> np.ndarray:
    """The labels of a data set: (N,), int64.

    Raises:
        BadInputError: If there is no row or no such column, or a label is missing or not a whole number.
    """
    if label_column not in dataset.column_names:
        raise BadInputError(f"There is no column `{label_column}`; the columns are {', '.join(dataset.column_names)}.")
    if len(dataset) == 0:
        raise BadInputError("The split is empty: it has no image.")
    values = dataset[label_column][:]
    if None in values:
        raise BadInputError(f"Row {values.index(None)} has no label: column `{label_column}` is empty there.")
    if not all(isinstance(value, int) for value in values):
        raise BadInputError(
            f"Column `{label_column}` must hold whole numbers (ClassLabel), got {dataset.features[label_column]}."
        )
    return np.asarray(values, dtype=np.int64)


def check_range(labels: np.ndarray, num_classes: int) -> None:
    """Raise `BadInputError` unless all labels (N,) are those of `num_classes` classes."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        worst = labels[wrong].max()
        raise BadInputError(
            f"Label {worst} is out of range: there are {num_classes} classes (0 to {num_classes - 1}). "
            "Relabel the image, or make `num_labels` the number of classes."
        )


def _largest_profile(available: list[int], imbalance_factor: float) -> int:
    """The largest `max_count` whose long-tailed counts all classes can supply."""
    if not imbalance_factor >= 1:
        return available[0]  # `long_tailed_counts` will tell what is wrong
    needs = [(count, share) for count, share in zip(available, _shares(len(available), imbalance_factor), strict=True)]
    # + 1: int() rounds down, so a class may be asked for a share of up to one image more than it has
    max_count = math.ceil(min((count + 1) / share for count, share in needs if share > 0))
    while any(int(max_count * share) > count for count, share in needs):
        max_count -= 1
    return max_count
