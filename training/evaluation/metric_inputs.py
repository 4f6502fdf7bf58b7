"""What metrics are of: class ids, scores and probabilities, as arrays and checked."""

import numpy as np
import torch
from numpy.typing import ArrayLike

from tailmoe.training.errors import BadInputError


def as_array(values: ArrayLike) -> np.ndarray:
    """In numpy, on the CPU; floats in float64."""
    if isinstance(values, torch.Tensor):  # numpy knows no bfloat16 and reads no device
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    array = np.asarray(values)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def check_scores(scores: np.ndarray, labels: np.ndarray) -> None:
    """Raise `BadInputError` unless they are finite, (N, C), with N class ids below C."""
    if scores.ndim != 2 or labels.shape != (len(scores),):
        raise BadInputError(
            f"Predictions and labels must have shapes (N, C) and (N,), got {scores.shape}, {labels.shape}."
        )
    check_ids("labels", labels, scores.shape[1])
    check_finite("predictions", scores)


def check_ids(name: str, ids: np.ndarray, num_classes: int) -> None:
    """Raise `BadInputError` unless they are class ids (N,), at least one."""
    if ids.ndim != 1 or len(ids) == 0:
        raise BadInputError(
            f"`{name}` must hold one class id for each image, at least one; their shape is {ids.shape}."
        )
    if ids.dtype.kind not in "iu":
        raise BadInputError(f"`{name}` must be class ids, which are integers, got {ids.dtype}.")
    if ids.min() < 0 or ids.max() >= num_classes:
        raise BadInputError(f"`{name}` must be 0 to {num_classes - 1}, got {ids.min()} to {ids.max()}.")


def check_finite(name: str, values: np.ndarray) -> None:
    """Raise `BadInputError` if one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise BadInputError(f"`{name}` must be finite, got NaN or infinity.")


def check_probabilities(name: str, rows: np.ndarray) -> None:
    """Raise `BadInputError` unless each row is a distribution."""
    check_finite(name, rows)
    if rows.min() < 0 or not np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        raise BadInputError(f"The rows of `{name}` must be probabilities: at least 0, with a sum of 1.")
