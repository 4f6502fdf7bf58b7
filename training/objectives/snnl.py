"""The objective of SNNL-MoE."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig

from tailmoe.modeling import SNNLMoEImageClassifierOutput
from tailmoe.modeling.validation import check_at_least
from tailmoe.training.losses import at_least_float32, soft_nearest_neighbor_loss
from tailmoe.training.objectives.checks import check_choice, check_model_type
from tailmoe.training.objectives.objective import Objective


class SNNLObjective(Objective):
    """Negative log-likelihood of the mixture, plus the soft nearest neighbour loss of every hidden layer.

    `L = NLL + snnl_weight * sum_layers SNNL_T(layer)` (Agarap & Azcarraga, arXiv 2603.26734). A weight of 0 is the
    baseline mixture of experts.

    Args:
        config: Configuration of the model.
        snnl_weight: Factor alpha of the soft nearest neighbour terms, at least 0.
        distance: `"cosine"` or `"euclidean"` (squared).
        temperature_mode: `"annealed"`: `1 / (1 + annealing_epochs * progress)^0.55`; `"fixed"`; or `"learned"`, a
            parameter trained with the model that stays above 0.
        temperature: Value of the fixed, or first value of the learned temperature, above 0.
        annealing_epochs: How many of the paper's epochs the whole run stands for in the annealed temperature.
    """

    uses_hidden_states = True

    def __init__(
        self,
        config: PreTrainedConfig,
        snnl_weight: float = 1.0,
        distance: Literal["cosine", "euclidean"] = "cosine",
        temperature_mode: Literal["annealed", "fixed", "learned"] = "annealed",
        temperature: float = 1.0,
        annealing_epochs: float = 50.0,
    ):
        super().__init__()
        check_model_type(self, config, "snnl_moe")
        check_choice("distance", distance, ("cosine", "euclidean"))
        check_choice("temperature_mode", temperature_mode, ("annealed", "fixed", "learned"))
        check_at_least(0, snnl_weight=snnl_weight, annealing_epochs=annealing_epochs)
        if temperature <= 0:
            raise ValueError(f"`temperature` must be above 0, got {temperature}.")
        self.snnl_weight, self.distance, self.temperature_mode = snnl_weight, distance, temperature_mode
        self.fixed_temperature, self.annealing_epochs = temperature, annealing_epochs
        if temperature_mode == "learned":
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    def temperature(self, progress: float | Tensor) -> float | Tensor:
        """The temperature at `progress`, above 0."""
        if self.temperature_mode == "annealed":
            return (1 + self.annealing_epochs * progress) ** -0.55
        return self.log_temperature.exp() if self.temperature_mode == "learned" else self.fixed_temperature

    def active_terms(self, progress: float) -> tuple[str, ...]:
        """Names of the loss terms that act, the same during the whole run."""
        return ("nll", "snnl") if self.snnl_weight else ("nll",)

    def forward(
        self,
        outputs: SNNLMoEImageClassifierOutput,
        labels: Tensor,
        progress: float | Tensor,
        active_terms: tuple[str, ...] | None = None,
    ) -> dict[str, Tensor]:
        """Weighted loss terms by name; the total loss is their sum.

        Args:
            outputs: Of the model, for B images, with its hidden states.
            labels: (B,).
            progress: Share of the run done, in [0, 1].
            active_terms: As in `Objective`; these terms do not depend on `progress`.
        """
        terms = {"nll": F.cross_entropy(at_least_float32(outputs.logits), labels)}
        if self.snnl_weight:
            temperature = self.temperature(progress)
            layers = [
                soft_nearest_neighbor_loss(hidden, labels, temperature, self.distance)
                for hidden in outputs.hidden_states
            ]
            terms["snnl"] = self.snnl_weight * torch.stack(layers).sum()
        return terms
