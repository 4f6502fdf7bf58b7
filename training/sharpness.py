"""Sharpness-aware minimisation: the gradient of an update is that of weights a step uphill."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def uphill(model: nn.Module, radius: float) -> Iterator[None]:
    """Within: the weights are a step of length `radius` along their gradient away, without a gradient; then as before.

    Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021, eq. 2: the
    gradient that is taken within is the one to update with. Running statistics of batch normalisation stay as they are.

    Args:
        model: With gradients.
        radius: Euclidean length of the step, over all weights together; above 0.
    """
    weights = [weight for weight in model.parameters() if weight.grad is not None]
    before = [weight.detach().clone() for weight in weights]
    gradients = [weight.grad for weight in weights]
    norm = torch.nn.utils.get_total_norm(gradients)
    with torch.no_grad():
        torch._foreach_add_(weights, torch._foreach_mul(gradients, radius / (norm + 1e-12)))
    model.zero_grad()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        with torch.no_grad():
            torch._foreach_copy_(weights, before)
