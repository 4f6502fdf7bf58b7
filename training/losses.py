"""The losses of ICL-MoE and SNNL-MoE: pure functions of tensors, each a scalar.

Shape letters: B batch, M experts, C classes, D features, k hard negatives.
Every loss is computed in float32 or wider, also under autocast.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

EXCLUDED = -30.0  # logit of a class that has no part in a softmax
SIMILARITIES_AT_ONCE = 2**22  # pairs of samples whose similarity is held in memory by the soft nearest neighbour loss


def _check_shape(name: str, tensor: Tensor, shape: str) -> None:
    if tensor.dim() != len(shape.split(",")):
        raise ValueError(f"`{name}` must have shape ({shape}), got {tuple(tensor.shape)}.")


def _check_labels(labels: Tensor, batch_size: int) -> None:
    if labels.shape != (batch_size,):
        raise ValueError(f"`labels` must have shape (B,) = ({batch_size},), got {tuple(labels.shape)}.")


def _without_autocast(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss that multiplies matrices, which autocast would do in half precision."""

    @functools.wraps(loss)
    def wrapped(features: Tensor, *args, **kwargs) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return loss(features, *args, **kwargs)

    return wrapped


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it was."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


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
    _check_shape("expert_features", expert_features, "B, M, D")
    directions = F.normalize(at_least_float32(expert_features), dim=-1)
    return (directions.sum(dim=1).square().sum(dim=-1) - directions.square().sum(dim=(1, 2))).mean()


@_without_autocast
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
    _check_shape("features", features, "B, D")
    _check_labels(labels, len(features))
    _check_shape("prototypes", prototypes, "C, D")
    _check_shape("hard_negatives", hard_negatives, "C, k")
    _check_temperature(temperature)
    candidates = torch.cat([labels[:, None], hard_negatives[labels]], dim=1)  # (B, 1 + k), the true class first
    directions = F.normalize(at_least_float32(prototypes)[candidates], dim=-1)  # (B, 1 + k, D)
    similarity = torch.einsum("bd,bkd->bk", F.normalize(at_least_float32(features), dim=-1), directions)
    losses = F.cross_entropy(similarity / temperature, torch.zeros_like(labels), reduction="none")
    return losses.mean() if weights is None else losses @ weights.to(losses)


def competition_loss(expert_losses: Tensor, eps: float = 1e-8) -> Tensor:
    """The experts' losses as resistors in parallel: `(sum_m 1 / (L_m + eps))^-1`.

    ICL-MoE, L_parallel. The better expert receives the larger gradient:
    `dL/dL_m = (sum_j 1/(L_j + eps))^-2 (L_m + eps)^-2`.

    Args:
        expert_losses: (M,), one mean loss per expert, or (B, M), one per sample, then averaged; not negative.
        eps: Keeps an expert without loss from dividing by zero; above 0.

    Raises:
        ValueError: If `expert_losses` has another number of dimensions, or `eps` is not above 0.
    """
    if expert_losses.dim() not in (1, 2):
        raise ValueError(f"`expert_losses` must have shape (M,) or (B, M), got {tuple(expert_losses.shape)}.")
    if eps <= 0:
        raise ValueError(f"`eps` must be above 0, got {eps}.")
    # in log space: 1/L of 1e8 and more would overflow when squared in the gradient
    return torch.logsumexp(-(at_least_float32(expert_losses) + eps).log(), dim=-1).neg().exp().mean()


@_without_autocast
def collaboration_loss(expert_logits: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence over the pairs of experts, so that they teach each other.

    ICL-MoE, L_distill = `2 / (M (M - 1)) sum_{m < m'} KL(softmax z^m || softmax z^m')`, averaged over the batch.

    Args:
        expert_logits: (B, M, C).

    Returns:
        Scalar, at least 0; 0 for a single expert.

    Raises:
        ValueError: If `expert_logits` is not three-dimensional.
    """
    _check_shape("expert_logits", expert_logits, "B, M, C")
    num_experts = expert_logits.shape[1]
    log_probs = F.log_softmax(at_least_float32(expert_logits), dim=-1).transpose(0, 1).flatten(1)  # (M, B C)
    # mean_cross[m, n] = E_m[log p_n], so that KL(m || n) = mean_cross[m, m] - mean_cross[m, n]
    mean_cross = log_probs.exp() @ log_probs.T / len(expert_logits)
    divergence = mean_cross.diagonal()[:, None] - mean_cross
    return divergence.triu(diagonal=1).sum() * (2 / max(num_experts * (num_experts - 1), 1))


def hardest_negative_suppression_loss(expert_logits: Tensor, labels: Tensor) -> Tensor:
    """Divergence of each expert from a teacher that is less sure of the class that all experts confuse most.

    Jin et al., "Long-Tailed Visual Recognition via Self-Heterogeneous Integration with Knowledge Excavation", CVPR 2023,
    as the authors' code has it. The teacher's logit of a class is the largest of the experts', of the hardest negative
    (the wrong class with the largest mean logit) the mean, and of the true class 0; an expert's logit of the true class is
    -30. KL(teacher || expert), summed over the experts, averaged over batch and classes.

    Args:
        expert_logits: (B, M, C).
        labels: (B,).

    Raises:
        ValueError: If a shape is wrong.
    """
    _check_shape("expert_logits", expert_logits, "B, M, C")
    _check_labels(labels, len(expert_logits))
    logits = at_least_float32(expert_logits)
    true_class = F.one_hot(labels, logits.shape[2]).bool()  # (B, C)
    mean = logits.mean(dim=1)
    hardest = mean.masked_fill(true_class, -math.inf).argmax(dim=1, keepdim=True)  # (B, 1)
    teacher = logits.amax(dim=1).scatter(1, hardest, mean.gather(1, hardest)).masked_fill(true_class, 0.0)
    experts = logits.masked_fill(true_class[:, None], EXCLUDED).log_softmax(dim=2)
    teacher = teacher.log_softmax(dim=1)[:, None].expand_as(experts)
    return F.kl_div(experts, teacher, reduction="none", log_target=True).mean(dim=(0, 2)).sum()


def balanced_softmax_loss(logits: Tensor, labels: Tensor, class_counts: Tensor) -> Tensor:
    """Cross-entropy of `logits + log(class_counts)`: the training prior is in the loss, not in the logits.

    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, eq. 4. With equal counts it
    is the plain cross-entropy.

    Args:
        logits: (..., C).
        labels: (...), class ids.
        class_counts: (C,), training images of each class, above 0.

    Raises:
        ValueError: If shapes do not fit, or a class has no training image.
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"`labels` must have shape {tuple(logits.shape[:-1])}, got {tuple(labels.shape)}.")
    if class_counts.shape != logits.shape[-1:]:
        raise ValueError(
            f"`class_counts` must have shape {tuple(logits.shape[-1:])}, got {tuple(class_counts.shape)}."
        )
    adjusted = at_least_float32(logits) + at_least_float32(class_counts).log()
    return F.cross_entropy(adjusted.flatten(0, -2), labels.flatten())


@_without_autocast
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
    _check_labels(labels, len(features))
    _check_temperature(temperature)
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


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
