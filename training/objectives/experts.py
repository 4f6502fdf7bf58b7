"""What objectives of several experts share.

Shape letters: B batch, M experts, C classes.
"""

import torch.nn.functional as F
from torch import Tensor

from tailmoe.training.objectives.losses import at_least_float32, balanced_softmax_loss


def expert_cross_entropies(expert_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each expert for each image: (B, M, C), (B,) -> (B, M)."""
    expert_labels = labels[:, None].expand(expert_logits.shape[:2])
    return F.cross_entropy(at_least_float32(expert_logits).movedim(-1, 1), expert_labels, reduction="none")


def expert_balanced_softmax(expert_logits: Tensor, labels: Tensor, class_counts: Tensor) -> Tensor:
    """Balanced Softmax of each expert, averaged over batch and experts: (B, M, C), (B,), (C,) -> scalar."""
    return balanced_softmax_loss(expert_logits, labels[:, None].expand(expert_logits.shape[:2]), class_counts)
