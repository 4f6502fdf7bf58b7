"""Cross-entropy with a weight for each class, of any image classification model."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from accelerate.utils import gather
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.utils import ModelOutput

from tailmoe.modeling import ICLMoEImageClassifierOutput
from tailmoe.training.objectives.objective import Objective

BALANCED = "balanced"


class ClassWeightedObjective(Objective):
    """`sum_i w_yi CE_i / sum_i w_yi` over the images of a batch, of all processes.

    Of an ICL-MoE it is the mean over the experts, for balanced heads in addition to those that shape the features.

    Args:
        config: Of the model.
        class_weights: `"balanced"` for weights inverse to the training images of each class, or one weight above 0 for each.

    Raises:
        ValueError: If there is not one for each class, or the training images are to tell them and are unknown.
    """

    def __init__(self, config: PreTrainedConfig, class_weights: str | Sequence[float]):
        super().__init__()
        self.balanced = class_weights == BALANCED
        # with weights of one's own, the frequencies that logits assume are between those of training and none
        self.training_logit_adjustment = 1.0 if self.balanced else 0.0
        weights = torch.ones(config.num_labels) if self.balanced else torch.tensor(class_weights, dtype=torch.float)
        if len(weights) != config.num_labels:
            raise ValueError(
                f"`class_weights` must have a weight for each of the {config.num_labels} labels, got {len(weights)}."
            )
        self.register_buffer("class_weights", weights)

    def set_class_counts(self, class_counts: Sequence[int]) -> bool:
        """Take the weights that the training images give; those of one's own stay."""
        if self.balanced:
            self._replace("class_weights", 1 / torch.tensor(class_counts, dtype=torch.float))
        return False

    def active_terms(self, progress: float) -> tuple[str, ...]:
        """Names of the loss terms that act, the same during the whole run."""
        return ("weighted_cross_entropy",)

    def forward(
        self,
        outputs: ModelOutput,
        labels: Tensor,
        progress: float | Tensor,
        active_terms: tuple[str, ...] | None = None,
    ) -> dict[str, Tensor]:
        """The loss term by its name, for B images; see `Objective.forward`."""
        share = self.class_weights[labels] / self.class_weights[gather(labels)].mean()  # (B,)
        losses = sum(_cross_entropies(logits, labels) for logits in _trained_logits(outputs))
        return {"weighted_cross_entropy": (share * losses).mean()}


def _trained_logits(outputs: ModelOutput) -> list[Tensor]:
    """The logits (B, C) or (B, M, C) that a model learns by."""
    if not isinstance(outputs, ICLMoEImageClassifierOutput):
        return [outputs.logits]
    representation, balanced = outputs.representation_logits, outputs.expert_logits
    return [representation] if representation is balanced else [representation, balanced]


def _cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    # (B, C) or (B, M, C) -> (B,), the mean over the experts
    experts = logits.float().reshape(len(labels), -1, logits.shape[-1])
    targets = labels[:, None].expand(experts.shape[:2])
    return F.cross_entropy(experts.transpose(1, 2), targets, reduction="none").mean(dim=1)


def check_class_weights(class_weights: str | Sequence[float] | None) -> None:
    """Raise `ValueError` unless it is None, `"balanced"`, or a list of numbers above 0."""
    if class_weights is None or class_weights == BALANCED:
        return
    numbers = isinstance(class_weights, list | tuple) and all(
        isinstance(weight, int | float) and 0 < weight < math.inf for weight in class_weights
    )
    if not numbers or not class_weights:
        raise ValueError(f"`class_weights` must be balanced, or a weight above 0 for each class, got {class_weights}.")
