"""Losses of features, in which samples, prototypes and experts attract and repel one another.

Shape letters: B batch, M experts, C classes, D features, k hard negatives.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tailmoe.training.objectives.losses.inputs import (
    at_least_float32,
    check_labels,
    check_shape,
    check_temperature,
    without_autocast,
)

SIMILARITIES_AT_ONCE = 2**22  # pairs of samples whose similarity is held in memory by the soft nearest neighbour loss


def adaptive_diversity_loss(expert_features: Tensor) -> Tensor:
    """Sum of the cosine similarities of every ordered pair of experts, averaged over the batch.

    Minimised, it pushes the experts' features apart (ICL-MoE, L_AD). From one sum: for unit vectors u_m,
    `sum_{m != m'} u_m.u_m' = |sum_m u_m|^2 - sum_m |u_m|^2`.

    Args:
        expert_features: (B, M, D).

    Returns:
        Scalar in [-M, M (M - 1)]; 0 for a single expert.

    Raises:
        ValueError: If `expert_features` is not three-dimensional.
    """
    check_shape("expert_features", expert_features, "B, M, D")
    directions = F.normalize(at_least_float32(expert_features), dim=-1)
    return (directions.sum(dim=1).square().sum(dim=-1) - directions.square().sum(dim=(1, 2))).mean()


@without_autocast
def confusion_contrastive_loss(
    features: Tensor,
    labels: Tensor,
    prototypes: Tensor,
    hard_negatives: Tensor,
    temperature: float = 0.07,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy that tells a feature's own class prototype from those of the classes it is confused with.

    ICL-MoE, L_CCL, for one expert: `-log(exp(h.p_c/t) / (exp(h.p_c/t) + sum_{c' in N(c)} exp(h.p_c'/t)))`, with
    features and prototypes normalised to length 1. Averaged over the batch. Only the prototypes that are compared are
    read, so that the cost does not grow with the number of classes.

    Args:
        features: (B, D), of single samples or of class means.
        labels: (B,), class of each feature.
        prototypes: (C, D), running mean feature of each class.
        hard_negatives: (C, k), for each class the classes it is most confused with, never itself.
        temperature: Divides the similarities; above 0.
        weights: (B,), share of each feature in the mean, together 1; None for equal shares.

    Raises:
        ValueError: If a shape or the temperature is wrong.
    """
    check_shape("features", features, "B, D")
    check_labels(labels, len(features))
    check_shape("prototypes", prototypes, "C, D")
    check_shape("hard_negatives", hard_negatives, "C, k")
    check_temperature(temperature)
    candidates = torch.cat([labels[:, None], hard_negatives[labels]], dim=1)  # (B, 1 + k), the true class first
    directions = F.normalize(at_least_float32(prototypes)[candidates], dim=-1)  # (B, 1 + k, D)
    similarity = torch.einsum("bd,bkd->bk", F.normalize(at_least_float32(features), dim=-1), directions)
    losses = F.cross_entropy(similarity / temperature, torch.zeros_like(labels), reduction="none")
    return losses.mean() if weights is None else losses @ weights.to(losses)


@without_autocast
def soft_nearest_neighbor_loss(
    features: Tensor,
    labels: Tensor,
    temperature: float | Tensor,
    distance: Literal["cosine", "euclidean"] = "cosine",
) -> Tensor:
    """How entangled the classes are: minus the log-probability that a sample's soft neighbour is of its class.

    Frosst et al., "Analyzing and Improving Representations with the Soft Nearest Neighbor Loss", ICML 2019, eq. 1, as
    SNNL-MoE uses it: `-1/B' sum_i log(sum_{j != i, y_j = y_i} e^{-d_ij/T} / sum_{k != i} e^{-d_ik/T})` over the B'
    samples that have another one of their class in the batch.

    Args:
        features: (B, ...), flattened to vectors.
        labels: (B,).
        temperature: T, above 0; a tensor receives its gradient.
        distance: `"cosine"` (1 - cosine similarity) or `"euclidean"` (squared).

    Returns:
        Scalar; exactly 0, with zero gradient, when no sample has another one of its class.

    Raises:
        ValueError: If a shape, the distance or the temperature is wrong.
    """
    if features.dim() < 2:
        raise ValueError(f"`features` must have shape (B, ...), got {tuple(features.shape)}.")
    check_labels(labels, len(features))
    check_temperature(temperature)
    if distance not in ("cosine", "euclidean"):
        raise ValueError(f'`distance` must be "cosine" or "euclidean", got "{distance}".')
    points = at_least_float32(features.flatten(1))
    points = F.normalize(points, dim=1) if distance == "cosine" else points - points.mean(dim=0)
    block = max(SIMILARITIES_AT_ONCE // len(points), 1)
    if len(points) <= block:
        log_probability, anchors = _neighbour_log_probability(points, labels, temperature, distance, 0, len(points))
    else:  # each block of rows is computed again for its gradient, so that only one is in memory
        log_probability, anchors = torch.stack(
            [
                torch.stack(
                    checkpoint(
                        _neighbour_log_probability,
                        *(points, labels, temperature, distance, start, min(start + block, len(points))),
                        use_reentrant=False,
                        preserve_rng_state=False,
                    )
                )
                for start in range(0, len(points), block)
            ]
        ).sum(dim=0)
    return -log_probability / anchors.clamp(min=1)


def _neighbour_log_probability(
    points: Tensor, labels: Tensor, temperature: float | Tensor, distance: str, start: int, stop: int
) -> tuple[Tensor, Tensor]:
    """Log-probability that the soft neighbour is of the same class, summed over the anchors among rows start to stop.

    Returns the sum and the number of anchors: rows with another one of their class. Of the squared distance
    `|x_i|^2 + |x_j|^2 - 2 x_i.x_j`, and of `1 - x_i.x_j`, what depends on the row i alone cancels in the quotient.
    """
    similarity = (points[start:stop] / temperature) @ points.T  # (b, B)
    if distance == "euclidean":
        similarity = 2 * similarity - points.square().sum(dim=1) / temperature
    itself = torch.arange(start, stop, device=labels.device)[:, None]
    positive = (labels[start:stop, None] == labels).scatter(1, itself, False)
    anchor = positive.any(dim=1)
    # finite, so that a row without a positive, which weighs nothing, has no inf - inf in its gradient
    nothing = torch.finfo(similarity.dtype).min
    same_class = torch.logsumexp(similarity.masked_fill(~positive, nothing), dim=1)
    neighbours = torch.logsumexp(similarity.scatter(1, itself, nothing), dim=1)
    log_probability = torch.where(anchor, same_class - neighbours, 0.0)
    return log_probability.sum(), anchor.sum().to(log_probability)
