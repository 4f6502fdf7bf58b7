"""The objective of SNNL-MoE."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from accelerate.utils import gather
from torch import Tensor, nn
from transformers import PreTrainedConfig

from tailmoe.modeling import SNNLMoEImageClassifierOutput
from tailmoe.modeling.validation import check_at_least
from tailmoe.training.objectives.checks import check_choice, check_class_counts, check_model_type
from tailmoe.training.objectives.losses import at_least_float32, soft_nearest_neighbor_loss
from tailmoe.training.objectives.objective import Objective
from tailmoe.training.objectives.processes import gather_with_gradient


def _log_shares(class_counts: Sequence[int]) -> Tensor:
    counts = torch.tensor(class_counts, dtype=torch.float)
    return (counts / counts.sum()).log()


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
        layers: Which of the model's hidden states are untangled, by index, such as `[-1]` for the pooled features that
            the gate and the experts read; all of them if None.
        logit_adjustment: Factor on the log of each class's share of the training images, added to the mixture's
            logits in the loss; 1 is Balanced Softmax, 0 plain likelihood.

    Raises:
        ValueError: If an option is out of its range, or an index names no hidden state.
    """

    model_options: ClassVar[dict[str, bool]] = {"output_hidden_states": True}

    def __init__(
        self,
        config: PreTrainedConfig,
        snnl_weight: float = 1.0,
        distance: Literal["cosine", "euclidean"] = "cosine",
        temperature_mode: Literal["annealed", "fixed", "learned"] = "annealed",
        temperature: float = 1.0,
        annealing_epochs: float = 50.0,
        layers: Sequence[int] | None = None,
        logit_adjustment: float = 0.0,
    ):
        super().__init__()
        check_model_type(self, config, "snnl_moe")
        check_choice("distance", distance, ("cosine", "euclidean"))
        check_choice("temperature_mode", temperature_mode, ("annealed", "fixed", "learned"))
        check_at_least(
            0, snnl_weight=snnl_weight, annealing_epochs=annealing_epochs, logit_adjustment=logit_adjustment
        )
        if temperature <= 0:
            raise ValueError(f"`temperature` must be above 0, got {temperature}.")
        self.snnl_weight, self.distance, self.temperature_mode = snnl_weight, distance, temperature_mode
        self.fixed_temperature, self.annealing_epochs = temperature, annealing_epochs
        if temperature_mode == "learned":
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.layers, self.logit_adjustment = layers, logit_adjustment
        self.training_logit_adjustment = logit_adjustment
        if config.backbone_config is None:
            self._check_layers(len(config.hidden_sizes) + 1)  # the stages' maps and the pooled features
        if logit_adjustment:
            check_class_counts(config)
            self.register_buffer("log_prior", _log_shares(config.class_counts))

    def set_class_counts(self, class_counts: Sequence[int]) -> bool:
        """As in `Objective`, as the logarithm of the classes' shares."""
        return self._replace("log_prior", _log_shares(class_counts))

    def _check_layers(self, num_states: int) -> None:
        for index in self.layers or ():
            if not -num_states <= index < num_states:
                raise ValueError(f"`layers` must name hidden states 0 to {num_states - 1}, got {index}.")

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
        logits = at_least_float32(outputs.logits)
        if self.logit_adjustment:
            logits = logits + self.logit_adjustment * self.log_prior
        terms = {"nll": F.cross_entropy(logits, labels)}
        if self.snnl_weight:
            temperature = self.temperature(progress)
            states = outputs.hidden_states
            self._check_layers(len(states))  # only now known of a backbone
            if self.layers is not None:
                states = [states[index] for index in self.layers]
            neighbours, labels = [gather_with_gradient(state) for state in states], gather(labels)
            losses = [soft_nearest_neighbor_loss(each, labels, temperature, self.distance) for each in neighbours]
            terms["snnl"] = self.snnl_weight * torch.stack(losses).sum()
        return terms
