"""Losses that look across the batch, when the batch lies on several processes."""

import torch.distributed
from torch import Tensor, nn


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """The rows (B, ...) of all processes, first to last; each gets the gradient of its own from all of them.

    A loss of the gathered rows is the same on every process, and so are the gradients that all processes sum and
    DistributedDataParallel averages: those of one process with the whole batch. Each process must have as many rows.
    """
    return _Gather.apply(tensor) if _several() else tensor


def average_gradients(module: nn.Module) -> None:
    """Give the parameters of a module that DistributedDataParallel does not wrap the mean gradient of all processes."""
    if _several():
        for parameter in module.parameters():
            if parameter.grad is not None:  # which terms act, and so who has a gradient, is the same everywhere
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= torch.distributed.get_world_size()


def _several() -> bool:
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


class _Gather(torch.autograd.Function):
    """All processes' rows; backward sums what the processes have found of each row."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, tensor: Tensor) -> Tensor:
        context.num_rows = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total.split(context.num_rows)[torch.distributed.get_rank()]
