"""The losses of ICL-MoE and SNNL-MoE: pure functions of tensors, each a scalar.

Every loss is computed in float32 or wider, also under autocast.
"""

from tailmoe.training.objectives.losses.classification import (
    balanced_softmax_loss,
    collaboration_loss,
    competition_loss,
    hardest_negative_suppression_loss,
)
from tailmoe.training.objectives.losses.contrastive import (
    adaptive_diversity_loss,
    confusion_contrastive_loss,
    soft_nearest_neighbor_loss,
)
from tailmoe.training.objectives.losses.inputs import at_least_float32

__all__ = [
    "adaptive_diversity_loss",
    "at_least_float32",
    "balanced_softmax_loss",
    "collaboration_loss",
    "competition_loss",
    "confusion_contrastive_loss",
    "hardest_negative_suppression_loss",
    "soft_nearest_neighbor_loss",
]
