"""Figures of a run, drawn from its results."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.evaluation.confusion import confusion_array
from tailmoe.training.figures.style import (
    BASELINE_COLOUR,
    MODEL_COLOUR,
    NAMED_CLASSES,
    count_ticks,
    open_axes,
    save,
    short,
)
from tailmoe.training.results.results import RunResults
from tailmoe.training.results.scores import percent

NUMBERED_CELLS = 10
ROWS_SHOWN = 1000  # of a confusion matrix: more than the picture has pixels


def write_figures(results: RunResults, folder: Path) -> list[Path]:
    """Draw the figures that apply into `folder` and return their paths; none where nothing was measured."""
    if results.metrics is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"accuracy_per_class.png": accuracy_per_class_figure, "confusion.png": confusion_figure}
    if results.metrics.expert_similarity_matrix is not None:
        figures["expert_similarity.png"] = expert_similarity_figure
    if results.metrics.reliability is not None:
        figures["reliability.png"] = reliability_figure
    if len(results.metrics.expert_agreement_matrix or []) > 1:
        figures["expert_agreement.png"] = expert_agreement_figure
    for name, draw in figures.items():
        draw(results, folder / name)
    return [folder / name for name in figures]


def accuracy_per_class_figure(results: RunResults, path: Path) -> None:
    """Accuracy of each class against its training images, falling from left to right; the baseline's points beside."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    counts = results.dataset.class_counts
    for run, colour, marker in _series(results):
        points = [(n, 100 * a) for n, a in zip(counts, run.metrics.per_class_accuracy, strict=True) if a is not None]
        axes.plot(
            *zip(*points, strict=True),
            marker,
            color=colour,
            markersize=7 if len(counts) <= NAMED_CLASSES else 5,
            markerfacecolor=colour if run is results else "none",
            label=f"{run.title} (mean of classes {percent(run.metrics.balanced_accuracy, ' %')})",
            zorder=3,
        )
    axes.set_xscale("log")
    axes.set_xlim(max(counts) * 1.3, min(counts) / 1.3)
    axes.set_ylim(-2, 103)
    _shade_shot_groups(axes, results.dataset.shot_bounds)
    count_ticks(axes.xaxis)
    axes.set_xlabel("training images of the class (logarithmic)")
    axes.set_ylabel("accuracy on test images (%)")
    open_axes(axes)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    save(figure, path)


def confusion_figure(results: RunResults, path: Path) -> None:
    """Confusion matrix of the model, and of the baseline beside it: each row the shares of a class's test images.

    Classes are ordered by training images, the largest first.
    """
    counts = results.dataset.class_counts
    order = sorted(range(len(counts)), key=lambda c: -counts[c])
    series = _series(results)
    named = len(order) <= NAMED_CLASSES
    groups = (
        np.argsort(order) * min(len(order), ROWS_SHOWN) // len(order)
    )  # neighbours share a row where there are many
    figure = Figure(figsize=(4.6 * len(series) + 2, 5), layout="constrained")
    panels = figure.subplots(1, len(series), sharey=True, squeeze=False)[0]
    for axes, (run, _, _) in zip(panels, series, strict=True):
        matrix = confusion_array(run.metrics.confusion_matrix, groups)
        shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100))  # the root shows rare confusions
        axes.set_title(f"{run.title}: {percent(run.metrics.accuracy, ' %')} right", fontsize=11)
        axes.set_xlabel("predicted class" if named else "predicted class, from most to fewest training images")
        if named:
            names = [short(results.dataset.label_names[c]) for c in order]
            axes.set_xticks(range(len(order)), names, rotation=90)
            axes.set_yticks(range(len(order)), [f"{name} ({counts[c]})" for name, c in zip(names, order, strict=True)])
        if len(order) <= NUMBERED_CELLS:
            _number_cells(axes, image, shares, "{:.0f}")
    panels[0].set_ylabel(
        "true class (training images)" if named else "true class, from most to fewest training images"
    )
    figure.colorbar(image, ax=panels, shrink=0.8, label="share of the class's test images (%)")
    save(figure, path)


def expert_similarity_figure(results: RunResults, path: Path) -> None:
    """Cosine similarity of the experts' first-layer weights, of the model and of the baseline beside it."""
    series = [entry for entry in _series(results) if entry[0].metrics.expert_similarity_matrix is not None]
    figure = Figure(figsize=(3.8 * len(series) + 1, 3.9), layout="constrained")
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for axes, (run, _, _) in zip(panels, series, strict=True):
        matrix = np.asarray(run.metrics.expert_similarity_matrix)
        image = axes.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1)
        mean = run.metrics.pairwise_embedding_similarity
        axes.set_title(f"{run.title}\nmean of pairs {mean:.3f}", fontsize=11)
        ticks = range(len(matrix))
        axes.set_xticks(ticks, [f"{k + 1}" for k in ticks])
        axes.set_yticks(ticks, [f"{k + 1}" for k in ticks])
        axes.set_xlabel("expert")
        if len(matrix) <= NUMBERED_CELLS:
            _number_cells(axes, image, matrix, "{:.2f}")
    panels[0].set_ylabel("expert")
    figure.colorbar(image, ax=panels, shrink=0.8, label="cosine similarity")
    save(figure, path)


def reliability_figure(results: RunResults, path: Path) -> None:
    """Accuracy against confidence in 15 bins, of the model and of the baseline; on the diagonal confidence is right."""
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="0.5", linewidth=0.8, linestyle="--")
    for run, colour, marker in _series(results):
        bins = [each for each in run.metrics.reliability or [] if each["images"]]
        if bins:
            total = sum(each["images"] for each in bins)
            confidence, accuracy = ([100 * each[key] for each in bins] for key in ("confidence", "accuracy"))
            axes.plot(confidence, accuracy, color=colour, linewidth=1)
            sizes = [200 * (each["images"] / total) ** 0.5 for each in bins]
            label = f"{run.title} (ECE {percent(run.metrics.ece, ' %')})"
            axes.scatter(confidence, accuracy, sizes, color=colour, marker=marker, alpha=0.7, label=label)
    axes.set_xlabel("confidence (%); larger marks hold more images")
    axes.set_ylabel("accuracy (%)")
    open_axes(axes)
    figure.legend(loc="outside upper left", frameon=False)
    save(figure, path)


def expert_agreement_figure(results: RunResults, path: Path) -> None:
    """Share of test images to which two experts give the same label."""
    matrix = 100 * np.asarray(results.metrics.expert_agreement_matrix)
    figure = Figure(figsize=(4.6, 3.9), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
    ticks = range(len(matrix))
    axes.set_xticks(ticks, [f"{k + 1}" for k in ticks])
    axes.set_yticks(ticks, [f"{k + 1}" for k in ticks])
    axes.set_xlabel("expert")
    axes.set_ylabel("expert")
    if len(matrix) <= NUMBERED_CELLS:
        _number_cells(axes, image, matrix, "{:.0f}")
    figure.colorbar(image, label="same label (% of test images)")
    save(figure, path)


def _series(results: RunResults) -> list[tuple[RunResults, str, str]]:
    """The runs to draw, with colour and marker: the baseline first, so that the model lies above it."""
    model = (results, MODEL_COLOUR, "o")
    return [model] if results.baseline is None else [(results.baseline, BASELINE_COLOUR, "s"), model]


def _shade_shot_groups(axes: Axes, shot: ShotBounds) -> None:
    left, right = axes.get_xlim()
    many, few = shot.many_above + 0.5, shot.few_below - 0.5
    bounds = [max(left, many), many, few, min(right, few)]
    for label, start, end, shade in zip(
        (f"many (> {shot.many_above})", f"medium ({shot.few_below}-{shot.many_above})", f"few (< {shot.few_below})"),
        bounds[:-1],
        bounds[1:],
        ("0.97", "0.92", "0.87"),
        strict=True,
    ):
        start, end = min(start, left), max(end, right)
        if start > end:
            axes.axvspan(start, end, color=shade, linewidth=0, zorder=0)
            axes.text((start * end) ** 0.5, 104, label, ha="center", va="bottom", fontsize=9, color="0.3")


def _number_cells(axes: Axes, image: AxesImage, values: np.ndarray, form: str) -> None:
    for (row, column), value in np.ndenumerate(values):
        if form.format(value) == "0":  # a cell without images is white enough
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.6  # perceived brightness
        colour = "white" if dark else "black"
        axes.text(column, row, form.format(value), ha="center", va="center", fontsize=8, color=colour)
