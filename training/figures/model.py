"""Figures that need a trained model and images: where each expert looks, and how features of classes lie."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedModel

from tailmoe.training.data import DecodedImages, LazyImages
from tailmoe.training.data.normalization import Normalization
from tailmoe.training.figures.style import save, short

EMBEDDED_CLASSES, IMAGES_OF_EACH = 10, 40
SHOWN_CLASSES = 6
LEAST_POINTS = 5  # fewer say nothing


def write_model_figures(
    models: dict[str, PreTrainedModel],
    processor: BaseImageProcessor,
    images: DecodedImages | LazyImages,
    label_names: Sequence[str],
    folder: Path,
) -> list[Path]:
    """Draw `features.png` and `grad_cam.png` into `folder` and return their paths.

    Args:
        models: By their titles, on the CPU or all on one device; the last one is the run's, before it its baseline if any.
        processor: Of all of them.
        images: Test images.
        label_names: C.
        folder: Written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for model in models.values():
        model.eval()
    written = []
    batch = images.__getitems__(_rows_of_classes(images.labels, EMBEDDED_CLASSES, IMAGES_OF_EACH))
    if len(batch["labels"]) >= LEAST_POINTS:
        features_figure(models, processor, batch, label_names, folder / "features.png")
        written.append(folder / "features.png")
    batch = images.__getitems__(_rows_of_classes(images.labels, SHOWN_CLASSES, 1))
    grad_cam_figure(list(models.values())[-1], processor, batch, label_names, folder / "grad_cam.png")
    return [*written, folder / "grad_cam.png"]


def features_figure(
    models: dict[str, PreTrainedModel],
    processor: BaseImageProcessor,
    batch: dict[str, Tensor],
    label_names: Sequence[str],
    path: Path,
) -> None:
    """t-SNE (van der Maaten and Hinton, 2008) of the features of some images, one panel for each model."""
    figure = Figure(figsize=(4.2 * len(models) + 1.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False)[0]
    labels = batch["labels"].numpy()
    colours = {c: f"C{number}" for number, c in enumerate(np.unique(labels))}
    for axes, (title, model) in zip(panels, models.items(), strict=True):
        features = _features(model, _normalized(batch, model, processor)).cpu().numpy()
        perplexity = min(30, (len(labels) - 1) / 3)
        places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features)
        for c, colour in colours.items():
            axes.scatter(*places[labels == c].T, s=9, color=colour, label=short(label_names[c]))
        axes.set_title(title, fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, markerscale=2)
    save(figure, path)


def grad_cam_figure(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    batch: dict[str, Tensor],
    label_names: Sequence[str],
    path: Path,
) -> None:
    """One image of some classes beside what each expert looks at for its own first answer."""
    heat, outputs = model.grad_cam(_normalized(batch, model, processor))
    answers = outputs.expert_logits.argmax(dim=-1)
    experts = heat.shape[1]
    figure = Figure(figsize=(1.5 * (experts + 1), 1.75 * len(heat)), layout="constrained")
    panels = figure.subplots(len(heat), experts + 1, squeeze=False)
    for number, row in enumerate(panels):
        picture = batch["pixel_values"][number].permute(1, 2, 0).numpy()
        extent = (0, picture.shape[1], picture.shape[0], 0)
        true = int(batch["labels"][number])
        for place, axes in enumerate(row):
            axes.imshow(picture.mean(axis=2) if place else picture, cmap="gray", extent=extent)
            axes.axis("off")
            if place:
                expert = place - 1
                image = heat[number, expert].cpu().numpy()
                axes.imshow(image, cmap="inferno", alpha=0.55, extent=extent, interpolation="bicubic")
                answer = int(answers[number, expert])
                colour = "black" if answer == true else "#B3412A"
                axes.set_title(f"{place}: {short(label_names[answer])}", fontsize=8, color=colour)
            else:
                axes.set_title(short(label_names[true]), fontsize=8, fontweight="bold")
    save(figure, path)


def _rows_of_classes(labels: Tensor, classes: int, of_each: int) -> list[int]:
    """The first images of evenly spaced classes."""
    present = labels.unique()
    chosen = present[torch.linspace(0, len(present) - 1, min(classes, len(present))).round().long()]
    return [int(row) for c in chosen for row in (labels == c).nonzero()[:of_each, 0]]


def _normalized(batch: dict[str, Tensor], model: PreTrainedModel, processor: BaseImageProcessor) -> Tensor:
    return Normalization(processor).to(model.device)(batch["pixel_values"].to(model.device))


@torch.no_grad()
def _features(model: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """What the classifiers see: (B, D), of all experts together."""
    outputs = model(pixel_values=pixel_values, output_hidden_states=True)
    return outputs["expert_features"].flatten(1) if "expert_features" in outputs else outputs["hidden_states"][-1]
