"""Losses that look across the batch, when the batch lies on several processes."""

import torch.distributed
from torch import Tensor


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """The rows (B, ...) of all processes, first to last; each gets the gradient of its own from all of them.

    A loss of the gathered rows is the same on every process, and so are the gradients that all processes sum and
    DistributedDataParallel averages: those of one process with the whole batch. Each process must have as many rows.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return tensor
    return _Gather.apply(tensor)


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
