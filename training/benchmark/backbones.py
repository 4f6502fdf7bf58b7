"""What experts cost on the backbones of transformers: a training step beside the plain backbone with one classifier."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import ConvNextV2Config, Dinov2Config, PreTrainedConfig, ResNetConfig, SwinConfig, ViTConfig

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.training.benchmark.measure import figure, times_in_turn
from tailmoe.training.benchmark.setting import CLASSES, EXPERTS, random_batch

SMALL = {"hidden_size": 384, "num_attention_heads": 6}
BACKBONES: dict[str, PreTrainedConfig] = {
    "ResNet-50": ResNetConfig(),
    "ConvNeXt V2-T": ConvNextV2Config(),
    "Swin-T": SwinConfig(),
    "DINOv2-S": Dinov2Config(image_size=224, **SMALL),
    "ViT-S": ViTConfig(intermediate_size=1536, **SMALL),
}
BATCH, SIZE = 2, 224
LEAST_RATE = 1 / 1.6  # of three experts, in images/s of the plain backbone


def backbone_figures(device: str, repeats: int) -> list[dict]:
    """Each backbone with three experts."""
    figures = []
    for name in BACKBONES:
        steps = {"ours": training_step(name, EXPERTS, device), "naive": training_step(name, 1, device)}
        times = times_in_turn(steps, device, repeats)
        figures.append(figure(f"{name}, {EXPERTS} experts", "images/s", BATCH, times, LEAST_RATE, batch_size=BATCH))
    return figures


def training_step(name: str, num_experts: int, device: str) -> Callable[[], Tensor]:
    """A step of SGD on random images, with the model's own loss; of one expert that of the plain backbone."""
    torch.manual_seed(0)
    plain = {"classifier": "linear", "balanced_heads": False} if num_experts == 1 else {}
    config = ICLMoEConfig(backbone_config=BACKBONES[name], num_experts=num_experts, num_labels=CLASSES, **plain)
    model = ICLMoEForImageClassification(config).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, 0.9)
    images, labels = random_batch(BATCH, SIZE, device)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = model(images, labels).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
