"""Figures of a run, drawn from its results (the content of `results.json`), and of a data set, as PNG files of 150 dpi.

Colours are those of Okabe and Ito and sequential maps, which stay apart for colour-blind readers and in grey.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from tailmoe.training.metrics import FEW_BELOW, MANY_ABOVE

DPI = 150
MODEL_COLOUR, BASELINE_COLOUR = "#0072B2", "#D55E00"
COLOURS = (MODEL_COLOUR, BASELINE_COLOUR, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
NAMED_CLASSES = 20  # with more, names do not fit along an axis
NAME_LENGTH = 20
NUMBERED_CELLS = 10


def write_figures(results: dict, folder: Path) -> list[Path]:
    """Draw the figures that apply into `folder` and return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"accuracy_per_class.png": accuracy_per_class_figure, "confusion.png": confusion_figure}
    if "expert_similarity_matrix" in results["metrics"]:
        figures["expert_similarity.png"] = expert_similarity_figure
    for name, draw in figures.items():
        draw(results, folder / name)
    return [folder / name for name in figures]


def accuracy_per_class_figure(results: dict, path: Path) -> None:
    """Accuracy of each class against its training images, falling from left to right; the baseline's points beside."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    counts = results["dataset"]["class_counts"]
    for run, colour, marker in _series(results):
        points = [
            (n, 100 * a) for n, a in zip(counts, run["metrics"]["per_class_accuracy"], strict=True) if a is not None
        ]
        mean = 100 * run["metrics"]["balanced_accuracy"]
        axes.plot(
            *zip(*points, strict=True),
            marker,
            color=colour,
            markersize=7 if len(counts) <= NAMED_CLASSES else 5,
            markerfacecolor=colour if run is results else "none",
            label=f"{run['title']} (mean of classes {mean:.1f} %)",
            zorder=3,
        )
    axes.set_xscale("log")
    axes.set_xlim(max(counts) * 1.3, min(counts) / 1.3)
    axes.set_ylim(-2, 103)
    _shade_shot_groups(axes)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("training images of the class (logarithmic)")
    axes.set_ylabel("accuracy on test images (%)")
    axes.grid(axis="y", color="0.85", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    _save(figure, path)


def confusion_figure(results: dict, path: Path) -> None:
    """Confusion matrix of the model, and of the baseline beside it: each row the shares of a class's test images.

    Classes are ordered by training images, the largest first.
    """
    counts = results["dataset"]["class_counts"]
    order = sorted(range(len(counts)), key=lambda c: -counts[c])
    series = _series(results)
    named = len(order) <= NAMED_CLASSES
    figure = Figure(figsize=(4.6 * len(series) + 2, 5), layout="constrained")
    panels = figure.subplots(1, len(series), sharey=True, squeeze=False)[0]
    for axes, (run, _, _) in zip(panels, series, strict=True):
        matrix = np.asarray(run["metrics"]["confusion_matrix"], dtype=float)[np.ix_(order, order)]
        shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100))  # the root shows rare confusions
        axes.set_title(f"{run['title']}: {100 * run['metrics']['accuracy']:.1f} % right", fontsize=11)
        axes.set_xlabel("predicted class" if named else "predicted class, from most to fewest training images")
        if named:
            names = [_short(results["dataset"]["label_names"][c]) for c in order]
            axes.set_xticks(range(len(order)), names, rotation=90)
            axes.set_yticks(range(len(order)), [f"{name} ({counts[c]})" for name, c in zip(names, order, strict=True)])
        if len(order) <= NUMBERED_CELLS:
            _number_cells(axes, image, shares, "{:.0f}")
    panels[0].set_ylabel(
        "true class (training images)" if named else "true class, from most to fewest training images"
    )
    figure.colorbar(image, ax=panels, shrink=0.8, label="share of the class's test images (%)")
    _save(figure, path)


def expert_similarity_figure(results: dict, path: Path) -> None:
    """Cosine similarity of the experts' first-layer weights, of the model and of the baseline beside it."""
    series = [entry for entry in _series(results) if "expert_similarity_matrix" in entry[0]["metrics"]]
    figure = Figure(figsize=(3.8 * len(series) + 1, 3.9), layout="constrained")
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for axes, (run, _, _) in zip(panels, series, strict=True):
        matrix = np.asarray(run["metrics"]["expert_similarity_matrix"])
        image = axes.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1)
        mean = run["metrics"]["pairwise_embedding_similarity"]
        axes.set_title(f"{run['title']}\nmean of pairs {mean:.3f}", fontsize=11)
        ticks = range(len(matrix))
        axes.set_xticks(ticks, [f"{k + 1}" for k in ticks])
        axes.set_yticks(ticks, [f"{k + 1}" for k in ticks])
        axes.set_xlabel("expert")
        if len(matrix) <= NUMBERED_CELLS:
            _number_cells(axes, image, matrix, "{:.2f}")
    panels[0].set_ylabel("expert")
    figure.colorbar(image, ax=panels, shrink=0.8, label="cosine similarity")
    _save(figure, path)


def class_counts_figure(counts_of: dict[str, list[int]], label_names: list[str], path: Path) -> None:
    """Training images of each class, the largest first, one line for each split of `counts_of`."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, (label, counts) in enumerate(counts_of.items()):
        axes.plot(
            sorted(counts, reverse=True),
            color=COLOURS[number % len(COLOURS)],
            marker="o" if len(counts) <= NAMED_CLASSES else None,
            label=label,
        )
    axes.set_yscale("log")
    largest, smallest = (pick(pick(counts) for counts in counts_of.values()) for pick in (max, min))
    axes.set_ylim(smallest / 1.3, largest * 1.3)
    for bound, label, side in ((MANY_ABOVE, "many-shot above", "bottom"), (FEW_BELOW, "few-shot below", "top")):
        if smallest < bound < largest:
            axes.axhline(bound, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
            axes.text(0.01, bound, label, transform=axes.get_yaxis_transform(), va=side, fontsize=9, color="0.3")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    first = next(iter(counts_of.values()))
    if len(first) <= NAMED_CLASSES:
        order = sorted(range(len(first)), key=lambda c: -first[c])
        axes.set_xticks(range(len(first)), [_short(label_names[c]) for c in order], rotation=30, ha="right")
    axes.set_xlabel("class, from most to fewest training images")
    axes.set_ylabel("training images (logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    _save(figure, path)


def sweeps_figure(ablation: dict, path: Path) -> None:
    """Accuracy against each number that an ablation sweeps, mean and standard deviation over seeds; none, no figure."""
    groups: dict[str, list[tuple[float, float, float]]] = {}
    for change in ablation["changes"]:
        accuracy = change["study"]["metrics"]["accuracy"]
        if change["group"] is not None and change["name"].replace(".", "", 1).isdigit():
            point = float(change["name"]), 100 * accuracy["mean"], 100 * (accuracy["std"] or 0)
            groups.setdefault(change["group"], []).append(point)
    if not groups:
        return
    figure = Figure(figsize=(3.6 * len(groups), 3.2), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (group, points) in zip(panels, groups.items(), strict=True):
        places, means, stds = zip(*sorted(points), strict=True)
        axes.errorbar(places, means, stds, marker="o", color=MODEL_COLOUR, capsize=3)
        axes.set_xlabel(group)
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.grid(axis="y", color="0.85", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy on validation images (%)")
    _save(figure, path)


def _series(results: dict) -> list[tuple[dict, str, str]]:
    """The runs to draw, with colour and marker: the baseline first, so that the model lies above it."""
    baseline = results["baseline"]
    model = (results, MODEL_COLOUR, "o")
    return [model] if baseline is None else [(baseline, BASELINE_COLOUR, "s"), model]


def _short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def _shade_shot_groups(axes: Axes) -> None:
    left, right = axes.get_xlim()
    many, few = MANY_ABOVE + 0.5, FEW_BELOW - 0.5
    bounds = [max(left, many), many, few, min(right, few)]
    for label, start, end, shade in zip(
        (f"many (> {MANY_ABOVE})", f"medium ({FEW_BELOW}-{MANY_ABOVE})", f"few (< {FEW_BELOW})"),
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


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)  # whatever backend the user has chosen for his own figures
    figure.savefig(path, dpi=DPI)
