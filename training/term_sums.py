"""The loss terms of training since the last log, summed on the device."""

import math
from collections import Counter

import torch
from torch import Tensor

from tailmoe.training.errors import NonFiniteLossError


class TermSums:
    """Sums each loss term where it is, and counts batches on the host, so that no step waits for the device."""

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.batches: Counter[str] = Counter()

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add a batch's terms; `count` their names as well. In place, as a recorded step needs it."""
        for name, term in terms.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros((), device=term.device)
            self.sums[name].add_(term.detach())

    def count(self, names: tuple[str, ...]) -> None:
        """Count a batch to which these terms were added."""
        self.batches.update(names)

    def check_finite(self, step: int) -> None:
        """Raise `NonFiniteLossError` if a term was not finite: its sum is not, either."""
        sums = {name: self.sums[name].item() for name in self.batches}
        bad = [f"`{name}` is {total}" for name, total in sums.items() if not math.isfinite(total)]
        if bad:
            raise NonFiniteLossError(
                f"Loss term {', '.join(bad)}, found at step {step}; no checkpoint was written since. Resume from the "
                "last one with a lower `learning_rate`, or with `max_grad_norm` above 0."
            )

    def take_means(self) -> dict[str, float]:
        """The mean of each term over its batches; the sums then start anew."""
        means = {name: self.sums[name].item() / batches for name, batches in self.batches.items()}
        for name in means:
            self.sums[name].zero_()
        self.batches.clear()
        return means
