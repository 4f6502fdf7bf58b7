"""Losses of logits, of one classifier or of experts that compete and collaborate.

Shape letters: B batch, M experts, C classes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tailmoe.training.objectives.losses.inputs import at_least_float32, check_labels, check_shape, without_autocast

EXCLUDED = -30.0  # logit of a class that has no part in a softmax


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


@without_autocast
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
    check_shape("expert_logits", expert_logits, "B, M, C")
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
    check_shape("expert_logits", expert_logits, "B, M, C")
    check_labels(labels, len(expert_logits))
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
