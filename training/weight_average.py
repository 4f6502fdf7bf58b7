"""The exponential moving average of a model's weights."""

import torch
from torch import Tensor, nn
from transformers import TrainerCallback


class WeightAverage(TrainerCallback):
    """Running mean of weights and running statistics, in which a step of long ago counts less; a Trainer's callback.

    The first steps are forgotten faster: step t keeps `min(decay, (1 + t) / (10 + t))` of the mean, as in TensorFlow's
    ExponentialMovingAverage.

    Args:
        model: Whose weights are averaged.
        decay: Share kept of the mean at each step, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.steps = torch.zeros((), dtype=torch.long)
        self.mean = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.update(model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the mean towards the model's weights."""
        self.steps += 1
        kept = min(self.decay, (1 + int(self.steps)) / (10 + int(self.steps)))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 1 - kept)
            else:
                self.mean[name].copy_(value)

    def copy_to(self, model: nn.Module) -> None:
        """Give the model the mean as its weights."""
        model.load_state_dict(self.mean)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        return {f"mean.{name}": value.contiguous() for name, value in self.mean.items()} | {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a checkpoint."""
        self.steps = state["steps"].clone()
        for name, value in self.mean.items():
            value.copy_(state[f"mean.{name}"])
