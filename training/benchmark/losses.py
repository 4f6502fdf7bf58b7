"""Losses, forward and backward."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tailmoe.modeling import ICLMoEImageClassifierOutput
from tailmoe.training.benchmark.measure import figure, times_in_turn
from tailmoe.training.benchmark.setting import BATCH, CLASSES, EXPERTS, cifar_config, make_network
from tailmoe.training.objectives.losses import (
    adaptive_diversity_loss,
    collaboration_loss,
    confusion_contrastive_loss,
    soft_nearest_neighbor_loss,
)

FEATURES, NEGATIVES = 64, 7
SNNL_SHAPE = (4096, 512)


def loss_figures(device: str, repeats: int) -> list[dict]:
    """Each loss at the size of CIFAR-100-LT, the objective's state, and the soft nearest neighbour loss of 4,096 samples."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    labels = torch.randint(CLASSES, (SNNL_SHAPE[0],), generator=generator).to(device)
    few, features, logits = labels[:BATCH], normal(BATCH, EXPERTS, FEATURES), normal(BATCH, EXPERTS, CLASSES)
    negatives = ((torch.arange(CLASSES)[:, None] + torch.arange(1, NEGATIVES + 1)) % CLASSES).to(device)
    contrast = (few, normal(CLASSES, FEATURES), negatives)
    losses = {
        "adaptive diversity": (adaptive_diversity_loss, features, ()),
        "collaboration": (collaboration_loss, logits, ()),
        "confusion contrast, 1 expert": (confusion_contrastive_loss, features[:, 0], contrast),
        "soft nearest neighbour": (soft_nearest_neighbor_loss, F.relu(normal(*SNNL_SHAPE)), (labels, 0.5)),
    }
    figures = []
    for name, (loss, tensor, others) in losses.items():
        tensor = tensor.detach().requires_grad_()

        def both_ways(loss=loss, tensor=tensor, others=others) -> None:
            torch.autograd.grad(loss(tensor, *others), tensor)

        times = times_in_turn({"ours": both_ways}, device, repeats)
        figures.append(figure(name, "steps/s", 1, times, shape=list(tensor.shape)))
    _, objective = make_network(cifar_config(), device)
    outputs = ICLMoEImageClassifierOutput(representation_logits=logits, expert_features=features)
    times = times_in_turn({"ours": lambda: objective.update_state(outputs, few)}, device, repeats)
    return [*figures, figure("prototypes and confusion", "steps/s", 1, times, shape=list(features.shape))]
