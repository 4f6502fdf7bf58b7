"""Balanced Softmax for every expert: a baseline."""

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from tailmoe.modeling import ICLMoEImageClassifierOutput
from tailmoe.training.objectives.checks import check_class_counts, check_model_type
from tailmoe.training.objectives.experts import expert_balanced_softmax
from tailmoe.training.objectives.objective import Objective


class BalancedSoftmaxObjective(Objective):
    """Each expert learns features and classifier by Balanced Softmax (Ren et al., NeurIPS 2020), without knowing the others.

    `L = sum_m CE(z^m + log n)`; what the model predicts is `z`.

    Args:
        config: Configuration of an ICL-MoE without balanced heads, which have no part in this; its `class_counts` must be
            known.
    """

    training_logit_adjustment = 1.0

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        check_model_type(self, config, "icl_moe")
        check_class_counts(config)
        if config.balanced_heads:
            raise ValueError("`config.balanced_heads` must be False for `BalancedSoftmaxObjective`, got True.")
        self.register_buffer("class_counts", torch.tensor(config.class_counts, dtype=torch.float))

    def active_terms(self, progress: float) -> tuple[str, ...]:
        """Names of the loss terms that act, the same during the whole run."""
        return ("balance",)

    def forward(
        self,
        outputs: ICLMoEImageClassifierOutput,
        labels: Tensor,
        progress: float | Tensor,
        active_terms: tuple[str, ...] | None = None,
    ) -> dict[str, Tensor]:
        """The loss term by its name, for B images; see `Objective.forward`."""
        logits = outputs.representation_logits  # (B, M, C)
        return {"balance": logits.shape[1] * expert_balanced_softmax(logits, labels, self.class_counts)}
