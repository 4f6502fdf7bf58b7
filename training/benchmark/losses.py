"""Losses, forward and backward, and the memory of the soft nearest neighbour loss."""

import multiprocessing
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tailmoe.modeling import ICLMoEImageClassifierOutput
from tailmoe.training.benchmark.measure import Figure, compare, peak_megabytes, times_in_turn
from tailmoe.training.benchmark.reference import (
    LoopedICL,
    looped_collaboration,
    looped_contrast,
    looped_diversity,
    looped_soft_nearest_neighbor,
)
from tailmoe.training.benchmark.setting import BATCH, CLASSES, EXPERTS, cifar_config
from tailmoe.training.losses import (
    adaptive_diversity_loss,
    collaboration_loss,
    confusion_contrastive_loss,
    soft_nearest_neighbor_loss,
)
from tailmoe.training.objectives import ICLObjective

FEATURES, NEGATIVES = 64, 7
SNNL_BATCH, SNNL_FEATURES, SNNL_CLASSES = 4096, 512, 100
MEMORY_BATCHES = (1024, 2048, 4096, 8192, 16384)


def loss_figures(device: str, repeats: int) -> list[Figure]:
    """Each loss at the size of CIFAR-100-LT, the objective's state, and the soft nearest neighbour loss of 4,096 samples."""
    torch.manual_seed(0)
    labels = torch.randint(CLASSES, (BATCH,), device=device)
    features = torch.randn(BATCH, EXPERTS, FEATURES, device=device)
    logits = torch.randn(BATCH, EXPERTS, CLASSES, device=device)
    prototypes = torch.randn(CLASSES, FEATURES, device=device)
    negatives = ((torch.arange(CLASSES)[:, None] + torch.arange(1, NEGATIVES + 1)) % CLASSES).to(device)
    contrast = (labels, prototypes, negatives)
    pairs = {
        "adaptive diversity": (features, adaptive_diversity_loss, looped_diversity, ()),
        "collaboration": (logits, collaboration_loss, looped_collaboration, ()),
        "confusion contrast, 1 expert": (features[:, 0], confusion_contrastive_loss, looped_contrast, contrast),
    }
    figures = [
        _figure(name, device, repeats, tensor, fast, looped, arguments)
        for name, (tensor, fast, looped, arguments) in pairs.items()
    ]
    return [*figures, _state_figure(device, repeats, features, logits, labels), _snnl_figure(device, repeats)]


def _figure(
    name: str,
    device: str,
    repeats: int,
    tensor: Tensor,
    fast: Callable[..., Tensor],
    looped: Callable[..., Tensor],
    arguments: tuple,
    target: float | None = None,
) -> Figure:
    tensor = tensor.clone().requires_grad_()
    times = times_in_turn(
        {
            "ours": lambda: torch.autograd.grad(fast(tensor, *arguments), tensor),
            "reference": lambda: torch.autograd.grad(looped(tensor, *arguments), tensor),
        },
        device,
        repeats,
        warmups=0 if target else 1,
    )
    return compare("losses", name, "steps/s", 1, times, target, shape=list(tensor.shape))


def _state_figure(device: str, repeats: int, features: Tensor, logits: Tensor, labels: Tensor) -> Figure:
    objectives = [ICLObjective(cifar_config()).to(device) for _ in range(2)]
    outputs = ICLMoEImageClassifierOutput(representation_logits=logits, expert_features=features)
    times = times_in_turn(
        {
            "ours": lambda: objectives[0].observe(outputs, labels),
            "reference": lambda: LoopedICL(objectives[1]).observe(outputs, labels),
        },
        device,
        repeats,
    )
    return compare("losses", "prototypes and confusion", "steps/s", 1, times, shape=list(features.shape))


def _snnl_figure(device: str, repeats: int) -> Figure:
    features, labels = _snnl_inputs(SNNL_BATCH, device)
    return _figure(
        "soft nearest neighbour",
        device,
        min(repeats, 5),
        features,
        soft_nearest_neighbor_loss,
        looped_soft_nearest_neighbor,
        (labels, 0.5),
        target=5.0,
    )


def _snnl_inputs(batch_size: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = F.relu(torch.randn(batch_size, SNNL_FEATURES, generator=generator))
    return features.to(device), torch.randint(SNNL_CLASSES, (batch_size,), generator=generator).to(device)


def snnl_memory(device: str) -> dict[str, list[float]]:
    """Megabytes that the soft nearest neighbour loss adds, forward and backward, by batch size; each in a new process."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        added = pool.map(_added_megabytes, [(size, device) for size in MEMORY_BATCHES], chunksize=1)
    return {"batch_sizes": list(MEMORY_BATCHES), "megabytes": added}


def _added_megabytes(case: tuple[int, str]) -> float:
    batch_size, device = case
    features, labels = _snnl_inputs(batch_size, device)
    small, small_labels = _snnl_inputs(64, device)
    for tensor, classes in ((small, small_labels), (features, labels)):
        before = peak_megabytes(device)  # after the small one: what any first call loads is not counted
        tensor = tensor.requires_grad_()
        soft_nearest_neighbor_loss(tensor, classes, 0.5).backward()
    return peak_megabytes(device) - before
