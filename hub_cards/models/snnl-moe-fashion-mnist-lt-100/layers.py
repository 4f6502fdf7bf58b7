"""Layers that both models are built from.

Shape letters: B batch, E experts, D features, C classes, H and W height and width.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer


def conv_norm(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps the size (divided by `stride`), then batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class ResidualBlock(GradientCheckpointingLayer):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes (He et al., CVPR 2016, option B)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.residual = nn.Sequential(
            conv_norm(in_channels, out_channels, stride=stride), nn.ReLU(), conv_norm(out_channels, out_channels)
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else conv_norm(in_channels, out_channels, kernel_size=1, stride=stride)

    def forward(self, hidden: Tensor) -> Tensor:
        # (B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)
        return F.relu(self.residual(hidden) + self.shortcut(hidden))


def residual_stage(in_channels: int, out_channels: int, depth: int, stride: int) -> nn.Sequential:
    """`depth` residual blocks; the first one changes width and size."""
    blocks = [ResidualBlock(in_channels, out_channels, stride)]
    blocks += [ResidualBlock(out_channels, out_channels) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


def shallow_projection(widths: list[int]) -> nn.Sequential:
    """Strided convolutions that bring a map of width `widths[0]` to width `widths[-1]`, halving it at each step.

    As published (SHIKE, CVPR 2023), the last of several steps has no ReLU, so that the product with it may be negative.
    """
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths):
        layers += [conv_norm(narrow, wide, stride=2), nn.ReLU()]
    return nn.Sequential(*(layers if len(widths) == 2 else layers[:-1]))


class ExpertLinear(nn.Module):
    """One linear layer per expert, computed for all experts at once."""

    def __init__(self, num_experts: int, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_experts, out_features))

    def forward(self, features_BED: Tensor, experts: slice = slice(None)) -> Tensor:
        # (B, E, in_features) -> (B, E, out_features), of the given experts
        return torch.einsum("bed,eod->beo", features_BED, self.weight[experts]) + self.bias[experts]

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.weight.shape[-1])
        init.uniform_(self.weight, -bound, bound)
        init.uniform_(self.bias, -bound, bound)


class ExpertCosine(nn.Module):
    """One cosine classifier per expert: `logit_scale` times the cosine of features and class weights."""

    def __init__(self, num_experts: int, in_features: int, out_features: int, logit_scale: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))
        self.logit_scale = logit_scale

    def forward(self, features_BED: Tensor, experts: slice = slice(None)) -> Tensor:
        # (B, E, in_features) -> (B, E, out_features), in [-logit_scale, logit_scale], of the given experts
        directions_BED, weight = F.normalize(features_BED, dim=-1), F.normalize(self.weight[experts], dim=-1)
        return self.logit_scale * torch.einsum("bed,ecd->bec", directions_BED, weight)

    def reset_parameters(self) -> None:
        init.normal_(self.weight, std=1 / math.sqrt(self.weight.shape[-1]))


def init_layer(module: nn.Module) -> None:
    """Initialise one layer of this file, or of the convolutions and norms it uses, in place."""
    if isinstance(module, nn.Conv2d):
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d):
        init.ones_(module.weight)
        init.zeros_(module.bias)
        init.zeros_(module.running_mean)
        init.ones_(module.running_var)
        init.zeros_(module.num_batches_tracked)
    elif isinstance(module, ExpertLinear | ExpertCosine):
        module.reset_parameters()


def contexts_of_passes(norms: Sequence[nn.Module]) -> tuple[contextlib.AbstractContextManager, ...]:
    """Contexts of the first and the second pass of checkpointed layers: batch normalisation counts a batch in the first."""
    return contextlib.nullcontext(), _statistics_kept(norms)


@contextlib.contextmanager
def _statistics_kept(norms: Sequence[nn.Module]) -> Iterator[None]:
    # they stay where they are, multiplied by 1: without them a pass would save other tensors than the first
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches
