"""Figures of studies with two arms, see `tailmoe.training.studies.paired`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tailmoe.training.figures.style import BASELINE_COLOUR, MODEL_COLOUR, open_axes, save
from tailmoe.training.results.results import StudyResults

BOXES = {"accuracy": ("accuracy (%)", 100), "expert_specialization_entropy": ("routing entropy", 1)}


def write_pair_figures(studies: Sequence[StudyResults], folder: Path) -> list[Path]:
    """Draw `seeds.png`, and `expert_similarity.png` if the models have experts behind a gate; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "seeds.png"]
    seeds_figure(studies, written[0])
    if all(study.runs[0].metrics.expert_similarity_matrix is not None for study in studies):
        written.append(folder / "expert_similarity.png")
        similarity_figure(studies, written[1])
    return written


def seeds_figure(studies: Sequence[StudyResults], path: Path) -> None:
    """Box plots over seeds, baseline beside model, a column for each study: accuracy above, routing entropy below.

    Each seed is a point; a line joins the two arms of a seed.
    """
    rows = [metric for metric in BOXES if all(metric in study.metrics for study in studies)]
    figure = Figure(figsize=(2.3 * len(studies) + 1, 2.9 * len(rows) + 0.5), layout="constrained")
    panels = figure.subplots(len(rows), len(studies), squeeze=False)
    for line, metric in zip(panels, rows, strict=True):
        label, factor = BOXES[metric]
        for axes, study in zip(line, studies, strict=True):
            arms = [[factor * value for value in arm.values(metric)] for arm in (study.baseline, study)]
            _boxes(axes, arms)
            axes.set_xticks([1, 2], ["without", "with"])
        line[0].set_ylabel(label)
    for axes, study in zip(panels[0], studies, strict=True):
        axes.set_title(study.name, fontsize=9)
    save(figure, path)


def similarity_figure(studies: Sequence[StudyResults], path: Path) -> None:
    """Cosine similarity of the experts' first-layer weights for the first seed, without above and with below."""
    figure = Figure(figsize=(2.3 * len(studies) + 1.4, 5.2), layout="constrained")
    panels = figure.subplots(2, len(studies), squeeze=False)
    for index, study in enumerate(studies):
        for axes, arm in zip(panels[:, index], (study.baseline, study), strict=True):
            metrics = arm.runs[0].metrics
            image = axes.imshow(np.asarray(metrics.expert_similarity_matrix), cmap="PuOr", vmin=-1, vmax=1)
            axes.set_xlabel(f"mean of pairs {metrics.pairwise_embedding_similarity:.3f}", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
        panels[0, index].set_title(study.name, fontsize=9)
    for axes, label in zip(panels[:, 0], ("without", "with"), strict=True):
        axes.set_ylabel(label)
    figure.colorbar(image, ax=panels, shrink=0.6, label="cosine similarity of experts")
    save(figure, path)


def _boxes(axes: Axes, arms: list[list[float]]) -> None:
    boxes = axes.boxplot(arms, widths=0.5, showfliers=False, patch_artist=True, medianprops={"color": "black"})
    for box, colour in zip(boxes["boxes"], (BASELINE_COLOUR, MODEL_COLOUR), strict=True):
        box.set(facecolor=colour, alpha=0.35)
    axes.plot([1, 2], arms, color="0.6", linewidth=0.6, zorder=1)
    for place, values, colour in zip((1, 2), arms, (BASELINE_COLOUR, MODEL_COLOUR), strict=True):
        axes.plot([place] * len(values), values, "o", color=colour, markersize=3.5, zorder=3)
    open_axes(axes)
