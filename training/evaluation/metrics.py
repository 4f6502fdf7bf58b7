"""Metrics of long-tailed classification and of experts: plain functions, values in [0, 1] unless stated."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, softmax

from tailmoe.training.data.shot_groups import ShotBounds, shot_groups
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation.confusion import count_confusions
from tailmoe.training.evaluation.metric_inputs import (
    as_array,
    check_finite,
    check_ids,
    check_probabilities,
    check_scores,
)


def classification_metrics(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: Sequence[int] | None = None,
    expert_logits: ArrayLike | None = None,
    shot_bounds: ShotBounds | None = None,
) -> dict:
    """All metrics of a classifier on a split.

    Args:
        logits: (N, C).
        labels: (N,), class ids.
        class_counts: Training images of each class; without them the accuracies of shot groups are None.
        expert_logits: (N, M, C), if the model has experts.
        shot_bounds: Of the shot groups; those of `ShotBounds.of` if None.

    Returns:
        What `accuracy_metrics` returns; `ece` and `reliability`, its bins; and, if the model has experts,
        `expert_accuracy`, a list of M, and `expert_agreement_matrix`, M lists of M.

    Raises:
        BadInputError: If shapes do not fit, there is no image, a label is out of range or a logit is not finite.
    """
    logits, labels = as_array(logits), as_array(labels)
    check_scores(logits, labels)
    metrics = accuracy_metrics(logits.argmax(axis=1), labels, logits.shape[1], class_counts, shot_bounds)
    bins = reliability(softmax(logits, axis=1), labels)
    metrics |= {"ece": _calibration_error(bins), "reliability": bins}
    if expert_logits is not None:
        experts = as_array(expert_logits)
        if experts.ndim != 3 or (len(experts), experts.shape[2]) != logits.shape or experts.shape[1] == 0:
            raise BadInputError(f"`expert_logits` must have shape (N, M, C), got {experts.shape} with {logits.shape}.")
        check_finite("expert_logits", experts)
        metrics["expert_accuracy"] = (experts.argmax(axis=2) == labels[:, None]).mean(axis=0).tolist()
        metrics["expert_agreement_matrix"] = expert_agreement(experts).tolist()
    return metrics


def accuracy_metrics(
    predictions: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    class_counts: Sequence[int] | None = None,
    shot_bounds: ShotBounds | None = None,
) -> dict:
    """Accuracies of predicted classes.

    A group's accuracy is the mean over its classes, as in Liu et al., CVPR 2019; on a test set with equally many
    images of each class, that is also the mean over its images.

    Args:
        predictions: (N,), class ids.
        labels: (N,), class ids.
        num_classes: C.
        class_counts: Training images of each class; without them the accuracies of shot groups are None.
        shot_bounds: Of the shot groups; those of `ShotBounds.of` if None.

    Returns:
        `accuracy`, the mean over images; `balanced_accuracy`, the mean over classes; `many_accuracy`,
        `medium_accuracy`, `few_accuracy`, None for a group without test images; `per_class_accuracy`, a list of C,
        None for a class without test images; `confusion_matrix`, as `count_confusions` gives it.

    Raises:
        BadInputError: If shapes do not fit, there is no image, or a class id is out of range.
    """
    predictions, labels = as_array(predictions), as_array(labels)
    check_ids("predictions", predictions, num_classes)
    check_ids("labels", labels, num_classes)
    if len(predictions) != len(labels):
        raise BadInputError(f"There are {len(predictions)} predictions for {len(labels)} labels.")
    if class_counts is not None and len(class_counts) != num_classes:
        raise BadInputError(f"`class_counts` must have a count for each of {num_classes} classes, got {class_counts}.")
    hits = predictions == labels
    images, right = (np.bincount(ids, minlength=num_classes).tolist() for ids in (labels, labels[hits]))
    per_class = [right[c] / images[c] if images[c] else None for c in range(num_classes)]
    groups = {"many": [], "medium": [], "few": []} if class_counts is None else shot_groups(class_counts, shot_bounds)
    return {
        "accuracy": float(hits.mean()),
        "balanced_accuracy": _mean_over(per_class, range(num_classes)),
        **{f"{group}_accuracy": _mean_over(per_class, members) for group, members in groups.items()},
        "per_class_accuracy": per_class,
        "confusion_matrix": count_confusions(labels, predictions, num_classes),
    }


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> float:
    """Mean distance of confidence and accuracy over the bins of `reliability`, weighted by size.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3.

    Args, Raises: As `reliability`.
    """
    return _calibration_error(reliability(probabilities, labels, num_bins))


def reliability(probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> list[dict]:
    """Equal bins of confidence, with the mean confidence and the accuracy of the images in each.

    Bins are open below and closed above, so that a confidence of 1 falls into the last.

    Args:
        probabilities: (N, C).
        labels: (N,), class ids.
        num_bins: At least 1.

    Returns:
        For each bin `images`, and `confidence` and `accuracy`, None for a bin without images.

    Raises:
        BadInputError: If shapes do not fit, values are not probabilities, or `num_bins` is below 1.
    """
    probabilities, labels = as_array(probabilities), as_array(labels)
    check_scores(probabilities, labels)
    check_probabilities("probabilities", probabilities)
    if num_bins < 1:
        raise BadInputError(f"`num_bins` must be at least 1, got {num_bins}.")
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    inner_edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    bins = np.searchsorted(inner_edges, confidence, side="left")
    images = np.bincount(bins, minlength=num_bins)
    sums = [np.bincount(bins, weights=values, minlength=num_bins) for values in (confidence, right)]
    return [
        {
            "images": int(n),
            "confidence": float(sums[0][k] / n) if n else None,
            "accuracy": float(sums[1][k] / n) if n else None,
        }
        for k, n in enumerate(images)
    ]


def expert_agreement(expert_logits: ArrayLike) -> np.ndarray:
    """Share of images to which two experts give the same label: (N, M, C) -> (M, M)."""
    answers = as_array(expert_logits).argmax(axis=2)
    return (answers[:, :, None] == answers[:, None]).mean(axis=0)


def expert_specialization_entropy(gate_probs: ArrayLike) -> float:
    """Mean over samples of the gate's entropy, over log K: near 0 for rigid routing, 1 for uniform; 0 for one expert.

    The paper of SNNL-MoE names this metric; the formula is ours.

    Args:
        gate_probs: (N, K), rows sum to 1.

    Raises:
        BadInputError: If the rows are not probabilities.
    """
    return _relative_entropy(_gate(gate_probs))


def gate_load_balance(gate_probs: ArrayLike) -> float:
    """Entropy of the mean gate, over log K: 1 when all experts carry the same load, 0 when one carries it all.

    Args:
        gate_probs: (N, K), rows sum to 1.

    Raises:
        BadInputError: If the rows are not probabilities.
    """
    return _relative_entropy(_gate(gate_probs).mean(axis=0, keepdims=True))


def pairwise_embedding_similarity(expert_weights: ArrayLike) -> tuple[float, np.ndarray]:
    """Mean cosine similarity of the pairs of experts' flattened weights, in [-1, 1], and the matrix of all of them.

    The paper of SNNL-MoE names this metric; that it is taken on the experts' first layer is our choice.

    Args:
        expert_weights: (K, ...), first-layer weights.

    Returns:
        The mean off the diagonal (0 for one expert) and the matrix (K, K).

    Raises:
        BadInputError: If there is no weight, or one is not finite.
    """
    weights = as_array(expert_weights)
    if weights.ndim < 2 or weights.size == 0:
        raise BadInputError(f"`expert_weights` must have shape (K, ...), got {weights.shape}.")
    check_finite("expert_weights", weights)
    weights = weights.reshape(len(weights), -1).astype(np.float64)
    directions = weights / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-12)
    matrix = np.clip(directions @ directions.T, -1, 1)
    pairs = len(weights) * (len(weights) - 1)
    return float((matrix.sum() - matrix.trace()) / max(pairs, 1)), matrix


def _calibration_error(bins: list[dict]) -> float:
    bins = [each for each in bins if each["images"]]
    distances = [each["images"] * abs(each["accuracy"] - each["confidence"]) for each in bins]
    return sum(distances) / sum(each["images"] for each in bins)


def _mean_over(per_class: list[float | None], members: Sequence[int]) -> float | None:
    values = [per_class[c] for c in members if per_class[c] is not None]
    return sum(values) / len(values) if values else None


def _relative_entropy(rows: np.ndarray) -> float:
    num_experts = rows.shape[1]
    if num_experts == 1:
        return 0.0
    # rounding alone can exceed 1
    return min(float(entr(rows).sum(axis=1).mean() / np.log(num_experts)), 1.0)


def _gate(gate_probs: ArrayLike) -> np.ndarray:
    gate = as_array(gate_probs)
    if gate.ndim != 2 or gate.size == 0:
        raise BadInputError(f"`gate_probs` must have shape (N, K), got {gate.shape}.")
    check_probabilities("gate_probs", gate)
    return np.clip(gate, 0, 1)
