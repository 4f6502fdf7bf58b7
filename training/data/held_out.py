"""Images held out from training, each with all its copies."""

import logging

import datasets
import numpy as np

from tailmoe.training.data.long_tailed import class_counts, label_array
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
TEST_SHARE = 0.2


def hold_out(train: datasets.Dataset, contents: np.ndarray) -> np.ndarray:
    """Rows of a fifth of each class's images, drawn with a fixed seed; a single image stays in training.

    Args:
        train: With the columns `image` and `label`.
        contents: (N,), a number for the bytes of each row's image: rows with the same bytes stay together, and those that are
            of several classes stay in training.

    Raises:
        BadInputError: If no class has two images.
    """
    generator, held = np.random.default_rng(0), []
    for images in _images_of_classes(train, contents):
        drawn = generator.permutation(images)
        held.append(drawn[: max(round(TEST_SHARE * len(drawn)), 1) if len(drawn) > 1 else 0])
    rows = np.flatnonzero(np.isin(contents, np.concatenate(held)))
    if len(rows) == 0:
        raise BadInputError(
            "There is no test split, and no class has two different images, of which one could be held out."
        )
    logger.info("No test split: %d of %d images were held out, a fifth of each class.", len(rows), len(train))
    return rows


def last_images(train: datasets.Dataset, contents: np.ndarray, per_class: int) -> np.ndarray:
    """Rows of the last images of each class, of which each keeps one at least; copies go with them.

    Args:
        train, contents: As in `hold_out`.
        per_class: Number of images.

    Raises:
        BadInputError: If a class has not that many images.
    """
    class_counts(train)  # a class without an image is told
    images = _images_of_classes(train, contents)
    fewest = min(len(of_class) for of_class in images)
    if not 1 <= per_class < fewest:
        raise BadInputError(
            f"`validation_per_class` must be at least 1 and less than the {fewest} images of the smallest class, got "
            f"{per_class}."
        )
    return np.flatnonzero(np.isin(contents, np.concatenate([of_class[-per_class:] for of_class in images])))


def _images_of_classes(train: datasets.Dataset, contents: np.ndarray) -> list[np.ndarray]:
    """The contents of each class in the order of their first rows, but those that are of several classes."""
    labels = label_array(train)
    pairs = np.unique(np.stack([contents, labels]), axis=1)
    values, counts = np.unique(pairs[0], return_counts=True)
    several = values[counts > 1]
    found = []
    for label in range(train.features["label"].num_classes):
        of_class = contents[labels == label]
        first = np.sort(np.unique(of_class, return_index=True)[1])
        images = of_class[first]
        found.append(images[~np.isin(images, several)])
    return found


def without(train: datasets.Dataset, rows: np.ndarray) -> datasets.Dataset:
    """All rows but these."""
    return train.select(np.setdiff1d(np.arange(len(train)), rows))
