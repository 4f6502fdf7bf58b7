"""How often images of each class were taken for which: counted, stored in results, and read from them.

Stored is a row for each true class that maps the predicted classes to counts above 0, with keys as JSON has them: as many
entries as images at most, where a matrix of 8,142 classes has 66 million cells. Results written before hold whole rows of
counts, and are read likewise.
"""

from collections.abc import Iterator, Sequence

import numpy as np

Confusions = list[dict[str, int]] | list[list[int]]


def count_confusions(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> list[dict[str, int]]:
    """A row for each true class, of its predicted classes in order.

    Args:
        labels: (N,), class ids.
        predictions: (N,), class ids.
        num_classes: C, of both.
    """
    cells, counts = np.unique(labels.astype(np.int64) * num_classes + predictions, return_counts=True)
    rows: list[dict[str, int]] = [{} for _ in range(num_classes)]
    for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
        rows[cell // num_classes][str(cell % num_classes)] = count
    return rows


def confusion_array(stored: Confusions, groups: Sequence[int] | None = None) -> np.ndarray:
    """The counts as a matrix (G, G), rows true.

    Args:
        stored: Of C classes.
        groups: The row and column (C,) that each class adds to, from 0; its own id if None.
    """
    groups = np.arange(len(stored)) if groups is None else np.asarray(groups)
    matrix = np.zeros((groups.max() + 1,) * 2, dtype=np.int64)
    true, predicted, counts = np.array([*_cells(stored)], dtype=np.int64).reshape(-1, 3).T
    np.add.at(matrix, (groups[true], groups[predicted]), counts)
    return matrix


def _cells(stored: Confusions) -> Iterator[tuple[int, int, int]]:
    for true, row in enumerate(stored):
        for predicted, count in row.items() if isinstance(row, dict) else enumerate(row):
            if count:
                yield true, int(predicted), count
