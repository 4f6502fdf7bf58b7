"""What experts cost on the backbones of transformers: time and memory of a training step against the plain backbone's."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure as Drawing
from torch import Tensor
from transformers import ConvNextV2Config, Dinov2Config, PreTrainedConfig, ResNetConfig, SwinConfig, ViTConfig

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.training.benchmark.measure import Figure, Spread, compare, peak_megabytes, times_in_turn
from tailmoe.training.benchmark.setting import CLASSES, EXPERTS, random_batch
from tailmoe.training.figures.style import COLOURS, open_axes, save

SMALL = {"hidden_size": 384, "num_attention_heads": 6}
BACKBONES: dict[str, PreTrainedConfig] = {
    "ResNet-50": ResNetConfig(),
    "ConvNeXt V2-T": ConvNextV2Config(),
    "Swin-T": SwinConfig(),
    "DINOv2-S": Dinov2Config(image_size=224, **SMALL),
    "ViT-S": ViTConfig(intermediate_size=1536, **SMALL),
}
COUNTS = (1, 2, 3, 4)  # of experts; 1 is the plain backbone with a linear classifier
BATCH, SIZE = 2, 224
LEAST_RATE = 1 / 1.6  # of three experts, in images/s of the plain backbone


def backbone_growth(device: str, repeats: int) -> dict[str, list[dict]]:
    """For each backbone and number of experts: seconds of a step, measured in turn, and megabytes that a process needs."""
    points = {}
    for name in BACKBONES:
        steps = {str(count): training_step(name, count, device) for count in COUNTS}
        times = times_in_turn(steps, device, repeats)
        points[name] = [
            {"experts": count, "seconds": times[str(count)], "megabytes": _megabytes(name, count, device)}
            for count in COUNTS
        ]
    return points


def backbone_figures(points: dict[str, list[dict]]) -> list[Figure]:
    """Three experts beside the plain backbone."""
    figures = []
    for name, line in points.items():
        seconds = {point["experts"]: point["seconds"] for point in line}
        times = {"ours": seconds[EXPERTS], "reference": seconds[1]}
        figures.append(
            compare("backbones", f"{name}, {EXPERTS} experts", "images/s", BATCH, times, LEAST_RATE, batch_size=BATCH)
        )
    return figures


def training_step(name: str, num_experts: int, device: str) -> Callable[[], Tensor]:
    """A step of SGD on random images, with the model's own loss."""
    torch.manual_seed(0)
    plain = {"classifier": "linear", "balanced_heads": False} if num_experts == 1 else {}
    config = ICLMoEConfig(backbone_config=BACKBONES[name], num_experts=num_experts, num_labels=CLASSES, **plain)
    model = ICLMoEForImageClassification(config).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, 0.9)
    images, labels = random_batch(BATCH, SIZE, CLASSES, device)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = model(images, labels).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def draw_backbones(points: dict[str, list[dict]], path: Path) -> None:
    """Time and memory of a training step against the number of experts, each relative to the plain backbone."""
    drawing = Drawing(figsize=(9, 3.6), layout="constrained")
    panels = drawing.subplots(1, 2)
    for (name, line), colour in zip(points.items(), COLOURS, strict=False):
        experts = [point["experts"] for point in line]
        seconds = [Spread.of(point["seconds"]).median for point in line]
        for axes, values in zip(panels, (seconds, [point["megabytes"] for point in line]), strict=True):
            axes.plot(experts, [value / values[0] for value in values], "o-", color=colour, label=name)
    for axes, what in zip(panels, ("time of a training step", "memory of a training process"), strict=True):
        axes.axhline(1, color="0.5", linewidth=0.8, linestyle=":")
        axes.set(xlabel="experts", ylabel=f"{what},\nplain backbone = 1", xticks=experts, ylim=(0.9, None))
        open_axes(axes)
    panels[0].axhline(1 / LEAST_RATE, color="0.5", linewidth=0.8, linestyle="--")
    panels[0].annotate("wanted of three experts", (experts[0], 1 / LEAST_RATE), va="bottom", fontsize=8, color="0.4")
    panels[0].legend(frameon=False, fontsize=8)
    save(drawing, path)


def _megabytes(name: str, num_experts: int, device: str) -> float:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(_megabytes_of_a_step, (name, num_experts, device))


def _megabytes_of_a_step(name: str, num_experts: int, device: str) -> float:
    step = training_step(name, num_experts, device)
    step()
    step()  # the momentum's memory comes with the first
    return peak_megabytes(device)
