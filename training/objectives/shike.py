"""The objective of SHIKE: a peer of ICL-MoE, on the same network."""

from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from tailmoe.modeling import ICLMoEImageClassifierOutput
from tailmoe.modeling.validation import check_at_least
from tailmoe.training.objectives.checks import check_class_counts, check_model_type, check_share
from tailmoe.training.objectives.experts import expert_balanced_softmax, expert_cross_entropies
from tailmoe.training.objectives.losses import collaboration_loss, hardest_negative_suppression_loss
from tailmoe.training.objectives.objective import Objective


class SHIKEObjective(Objective):
    """Self-heterogeneous integration with knowledge excavation (Jin et al., CVPR 2023), as the authors' code has it.

    `L = sum_m CE(z^m) + suppression_weight L_suppression + L_distillation`, where
    `L_distillation = 1/C sum_{m != m'} KL(z^m' || z^m)` is averaged over the batch; then the balanced heads alone, on
    frozen features, by Balanced Softmax.

    Args:
        config: Configuration of an ICL-MoE with balanced heads; its `class_counts` must be known.
        suppression_weight: Factor of the hardest negative suppression, at least 0.
        balance_from: Progress from which the balanced heads train (180 of 200 epochs).
    """

    model_options: ClassVar[dict[str, bool]] = {"raw_logits": True}  # the decoupled stage is in evaluation mode
    training_logit_adjustment = 1.0

    def __init__(self, config: PreTrainedConfig, suppression_weight: float = 10.0, balance_from: float = 0.9):
        super().__init__()
        check_model_type(self, config, "icl_moe")
        check_class_counts(config)
        check_share(balance_from=balance_from)
        check_at_least(0, suppression_weight=suppression_weight)
        if not config.balanced_heads:
            raise ValueError("`config.balanced_heads` must be True for `SHIKEObjective`, got False.")
        self.suppression_weight, self.balance_from = suppression_weight, balance_from
        self.register_buffer("class_counts", torch.tensor(config.class_counts, dtype=torch.float))

    def decoupled_from(self) -> float:
        """Progress from which only the balanced heads train."""
        return self.balance_from

    def active_terms(self, progress: float) -> tuple[str, ...]:
        """Names of the loss terms that act at `progress`."""
        return ("balance",) if progress >= self.balance_from else ("cross_entropy", "suppression", "distillation")

    def forward(
        self,
        outputs: ICLMoEImageClassifierOutput,
        labels: Tensor,
        progress: float | Tensor,
        active_terms: tuple[str, ...] | None = None,
    ) -> dict[str, Tensor]:
        """Weighted loss terms by name, for B images; see `Objective.forward`."""
        if "balance" in (self.active_terms(progress) if active_terms is None else active_terms):
            heads = outputs.expert_logits
            return {"balance": heads.shape[1] * expert_balanced_softmax(heads, labels, self.class_counts)}
        logits = outputs.representation_logits  # (B, M, C)
        pairs = logits.shape[1] * (logits.shape[1] - 1) / 2
        both_ways = collaboration_loss(logits) + collaboration_loss(logits.flip(1))  # means over the pairs
        return {
            "cross_entropy": expert_cross_entropies(logits, labels).mean(dim=0).sum(),
            "suppression": self.suppression_weight * hardest_negative_suppression_loss(logits, labels),
            "distillation": pairs * both_ways / logits.shape[2],
        }
