"""How often images of each class were taken for which: counted, stored in results, and read from them.

Stored is a line for each true class, of its predicted classes and how often: `0:90 7:10`. It grows with the images, where a
matrix of 8,142 classes has 66 million cells.
"""

from collections.abc import Sequence

import numpy as np


def count_confusions(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> list[str]:
    """A line for each true class, of its predicted classes in order.

    Args:
        labels: (N,), class ids.
        predictions: (N,), class ids.
        num_classes: C, of both.
    """
    cells, counts = np.unique(labels.astype(np.int64) * num_classes + predictions, return_counts=True)
    lines: list[list[str]] = [[] for _ in range(num_classes)]
    for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
        lines[cell // num_classes].append(f"{cell % num_classes}:{count}")
    return [" ".join(line) for line in lines]


def confusion_array(stored: Sequence[str], groups: Sequence[int] | None = None) -> np.ndarray:
    """The counts as a matrix (G, G), rows true.

    Args:
        stored: Of C classes.
        groups: The row and column (C,) that each class adds to, from 0; its own id if None.
    """
    groups = np.arange(len(stored)) if groups is None else np.asarray(groups)
    matrix = np.zeros((groups.max() + 1,) * 2, dtype=np.int64)
    cells = [(true, *map(int, cell.split(":"))) for true, line in enumerate(stored) for cell in line.split()]
    true, predicted, counts = np.array(cells, dtype=np.int64).reshape(-1, 3).T
    np.add.at(matrix, (groups[true], groups[predicted]), counts)
    return matrix
