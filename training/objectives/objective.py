"""What a Trainer asks of every objective."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput


class Objective(nn.Module):
    """A module that turns a model's outputs into named, weighted loss terms; without state and stages unless it says so.

    A subclass defines `active_terms` and `forward`.
    """

    model_options: ClassVar[dict[str, bool]] = {}  # what the model is called with in training, besides the images
    training_logit_adjustment = 0.0  # see the configuration's field of this name

    def set_class_counts(self, class_counts: Sequence[int]) -> bool:
        """Take the training images of each class in place of those in the buffer `class_counts`, where there is one.

        Returns whether they differed.

        Raises:
            ValueError: If the objective was made for another number of classes.
        """
        return self._replace("class_counts", torch.tensor(class_counts, dtype=torch.float))

    def _replace(self, name: str, value: Tensor) -> bool:
        buffer = dict(self.named_buffers(recurse=False)).get(name)
        if buffer is None:
            return False
        if buffer.shape != value.shape:
            raise ValueError(f"`{type(self).__name__}` was made for {len(buffer)} classes, there are {len(value)}.")
        value = value.to(buffer)
        changed = not torch.equal(buffer, value)
        buffer.copy_(value)
        return changed

    def decoupled_from(self) -> float:
        """Progress from which the decoupled stage runs; 1 when the whole run is one stage."""
        return 1.0

    def active_terms(self, progress: float) -> tuple[str, ...]:
        """Names of the loss terms that act at `progress`."""
        raise NotImplementedError

    def forward(
        self,
        outputs: ModelOutput,
        labels: Tensor,
        progress: float | Tensor,
        active_terms: tuple[str, ...] | None = None,
    ) -> dict[str, Tensor]:
        """Weighted loss terms by name; the total loss is their sum.

        Args:
            outputs: Of the model, for B images, called with `model_options`.
            labels: (B,).
            progress: Share of the run done, in [0, 1].
            active_terms: The terms that act, where `progress` is a tensor that must not be waited for.
        """
        raise NotImplementedError

    def update_state(self, outputs: ModelOutput, labels: Tensor) -> None:
        """Update the running state, if there is any, after the terms of the step."""
