"""What is understood of a data set before anything is trained on it."""

from collections import Counter, defaultdict
from itertools import combinations

import datasets
import numpy as np

from tailmoe.training.data.duplicates import content_numbers
from tailmoe.training.data.long_tailed import label_array
from tailmoe.training.data.looks import Look, looks, near_duplicates
from tailmoe.training.data.sources import find_images

WITHIN = "within {}"
COPIES = "in {} more than once"
SHARED = "in both {} and {}"
SEVERAL_CLASSES = "in several classes"


def inspect_images(name: str, **options: str | int | None) -> dict:
    """Splits and classes as they are, what is left out, and which images are there more than once.

    Args:
        name: As in `load_long_tailed`.
        **options: Columns, config, revision and class depth, as there.

    Returns:
        `name` and `options`, as given; `has_splits`; `splits`, for each split with labels the number of images of each class by name; `unlabelled`, the
        number of images of each other split; `left_out`, paths by reason; `num_others`, files that are no images; `repeated`,
        for each way to be there more than once the number of images and the places of two that are the same; `near`, likewise
        the number of pairs that look the same though their bytes differ, and such a pair; `unread`, the number of images that
        cannot be read and the place of one, or None; `sizes`, the least, median and greatest width and height; `modes`, the
        number of images of each mode of Pillow.

    Raises:
        BadInputError: As `load_long_tailed`.
    """
    found = find_images(name, **options)
    labelled = found.labelled()
    names = None
    standard = {}
    for split in sorted(labelled, key=lambda split: split != "train"):
        standard[split] = found.standard(split, names)
        names = standard[split].features["label"].names if split == "train" else names
    contents = dict(zip(standard, content_numbers([*standard.values()]), strict=True))
    return {
        "name": name,
        "options": options,
        "has_splits": found.has_splits,
        "splits": {split: _counts(rows) for split, rows in standard.items()},
        "unlabelled": {split: len(rows) for split, rows in found.splits.items() if split not in labelled},
        "left_out": dict(found.left_out),
        "num_others": found.num_others,
        "repeated": _repeated(standard, contents),
        **_looks(standard, contents),
    }


def _counts(rows: datasets.Dataset) -> dict[str, int]:
    names = rows.features["label"].names
    return dict(zip(names, np.bincount(label_array(rows), minlength=len(names)).tolist(), strict=True))


def _repeated(
    splits: dict[str, datasets.Dataset], contents: dict[str, np.ndarray]
) -> dict[str, tuple[int, tuple[str, str]]]:
    every = np.concatenate([*contents.values()])
    labels = np.concatenate([label_array(rows) for rows in splits.values()])
    places = [(split, row) for split, rows in splits.items() for row in range(len(rows))]
    several = np.unique(np.stack([every, labels]), axis=1)[0]
    ways = {COPIES.format(split): _more_than_once(numbers) for split, numbers in contents.items()}
    ways |= {SHARED.format(a, b): np.intersect1d(contents[a], contents[b]) for a, b in combinations(contents, 2)}
    ways[SEVERAL_CLASSES] = _more_than_once(several)
    told = {}
    for way, numbers in ways.items():
        if len(numbers):
            two = np.flatnonzero(every == numbers[0])[[0, -1]]
            told[way] = len(numbers), tuple(_place(splits, *places[row]) for row in two)
    return told


def _looks(splits: dict[str, datasets.Dataset], contents: dict[str, np.ndarray]) -> dict:
    places = [(split, row) for split, rows in splits.items() for row in range(len(rows))]
    found = [look for rows in splits.values() for look in looks(rows)]
    unread = [place for place, look in zip(places, found, strict=True) if look is None]
    _, first = np.unique(np.concatenate([*contents.values()]), return_index=True)  # of the same bytes one
    seen = [row for row in first.tolist() if found[row] is not None]
    sizes = np.array([look.size for look in found if look is not None]).reshape(-1, 2)
    return {
        "near": _near(splits, [places[row] for row in seen], [found[row] for row in seen]),
        "unread": (len(unread), _place(splits, *unread[0])) if unread else None,
        "sizes": [[int(of(side)) for side in sizes.T] for of in (np.min, np.median, np.max)] if len(sizes) else None,
        "modes": dict(Counter(look.mode for look in found if look is not None).most_common()),
    }


def _near(
    splits: dict[str, datasets.Dataset], places: list[tuple[str, int]], found: list[Look]
) -> dict[str, tuple[int, tuple[str, str]]]:
    """Pairs by the way in which they are near duplicates: their number, and the places of the first."""
    pairs = near_duplicates(found).tolist() if found else []
    labels = {split: label_array(rows) for split, rows in splits.items()}
    ways = defaultdict(list)
    for pair in pairs:
        (one, first), (other, second) = (places[row] for row in pair)
        ways[WITHIN.format(one) if one == other else SHARED.format(one, other)].append(pair)
        if labels[one][first] != labels[other][second]:
            ways[SEVERAL_CLASSES].append(pair)
    return {way: (len(pairs), tuple(_place(splits, *places[row]) for row in pairs[0])) for way, pairs in ways.items()}


def _more_than_once(numbers: np.ndarray) -> np.ndarray:
    values, counts = np.unique(numbers, return_counts=True)
    return values[counts > 1]


def _place(splits: dict[str, datasets.Dataset], split: str, row: int) -> str:
    image = splits[split].cast_column("image", datasets.Image(decode=False))[row]["image"]
    return image["path"] if image["bytes"] is None else f"row {row} of {split}"
