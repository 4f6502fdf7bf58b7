"""What losses make of their inputs: checks, and float32 or wider."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, shape: str) -> None:
    """Raise `ValueError` unless the tensor has as many dimensions as `shape`, such as `B, M, C`."""
    if tensor.dim() != len(shape.split(",")):
        raise ValueError(f"`{name}` must have shape ({shape}), got {tuple(tensor.shape)}.")


def check_labels(labels: Tensor, batch_size: int) -> None:
    """Raise `ValueError` unless there is one label for each of the batch."""
    if labels.shape != (batch_size,):
        raise ValueError(f"`labels` must have shape (B,) = ({batch_size},), got {tuple(labels.shape)}.")


def check_temperature(temperature: float | Tensor) -> None:
    """Raise `ValueError` unless it is above 0; of a tensor that would wait for the device."""
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")


def without_autocast(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss that multiplies matrices, which autocast would do in half precision."""

    @functools.wraps(loss)
    def wrapped(features: Tensor, *args, **kwargs) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return loss(features, *args, **kwargs)

    return wrapped


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it was."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
