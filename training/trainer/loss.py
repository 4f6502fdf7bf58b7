"""The loss of a training: an objective's terms, or the model's own loss, and their means for the log."""

import math
from collections import Counter

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from transformers.utils import ModelOutput

from tailmoe.training.errors import NonFiniteLossError

UNREAD = 50  # batches between two looks at an accelerator's loss, each of which waits for the device


class TrainingLoss:
    """The loss of a batch; each term is summed where it is, so that no step waits for the device.

    Args:
        objective: As `Objective`; the model's own loss, `model_loss`, is the only term if None.
    """

    def __init__(self, objective: nn.Module | None):
        self.objective = objective
        self.sums: dict[str, Tensor] = {}
        self.batches: Counter[str] = Counter()

    def begin_step(self, model: nn.Module, progress: float) -> tuple[str, ...]:
        """The terms that act; frozen features of a decoupled stage keep the statistics of batch normalisation, too."""
        if model.training != (self.objective is None or progress < self.objective.decoupled_from()):
            model.train(not model.training)
        return ("model_loss",) if self.objective is None else self.objective.active_terms(progress)

    def __call__(
        self, model: nn.Module, inputs: dict[str, Tensor], progress: float | Tensor, active: tuple[str, ...]
    ) -> tuple[Tensor, ModelOutput]:
        """Loss and outputs; adds the terms to their sums and lets the objective observe. Can be recorded as a CUDA graph."""
        pixel_values, labels = inputs["pixel_values"], inputs["labels"]
        outputs, terms = self._terms(model, pixel_values, labels, progress, active)
        if "mixed_labels" in inputs:
            weight = inputs["weight"]
            _, mixed_terms = self._terms(model, pixel_values, inputs["mixed_labels"], progress, active, outputs)
            terms = {name: weight * term + (1 - weight) * mixed_terms[name] for name, term in terms.items()}
        if self.objective is not None:
            self.objective.update_state(outputs, labels)
        for name, term in terms.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros((), device=term.device)
            self.sums[name].add_(term.detach())  # in place, as a recorded step needs it
        return sum(terms.values()), outputs

    def _terms(
        self,
        model: nn.Module,
        pixel_values: Tensor,
        labels: Tensor,
        progress: float | Tensor,
        active: tuple[str, ...],
        outputs: ModelOutput | None = None,
    ) -> tuple[ModelOutput, dict[str, Tensor]]:
        """Outputs and loss terms by name; an objective needs no second pass where `outputs` are known."""
        if self.objective is None:
            outputs = model(pixel_values=pixel_values, labels=labels)
            return outputs, {"model_loss": outputs.loss}
        if outputs is None:
            outputs = model(pixel_values=pixel_values, **self.objective.model_options)
        return outputs, self.objective(outputs, labels, progress, active)

    def end_step(self, active: tuple[str, ...], step: int) -> None:
        """Count a batch on the host, and look at the sums where that costs nothing, or now and then.

        Raises:
            NonFiniteLossError: As `check_finite`.
        """
        self.batches.update(active)
        if self.sums[active[0]].device.type == "cpu" or step % UNREAD == 0:
            self.check_finite(step)

    def check_finite(self, step: int) -> None:
        """Raise `NonFiniteLossError` if a term was not finite since the last log: its sum is not, either."""
        sums = {name: self.sums[name].item() for name in self.batches}
        bad = [f"`{name}` is {total}" for name, total in sums.items() if not math.isfinite(total)]
        if bad:
            raise NonFiniteLossError(
                f"Loss term {', '.join(bad)}, found at step {step}; no checkpoint was written since. Resume from the "
                "last one with a lower `learning_rate`, or with `max_grad_norm` above 0."
            )

    def take_means(self) -> dict[str, float]:
        """The mean of each term over its batches, of all processes; the sums then start anew."""
        means = {name: reduce(self.sums[name] / batches, "mean").item() for name, batches in self.batches.items()}
        for name in means:
            self.sums[name].zero_()
        self.batches.clear()
        return means
