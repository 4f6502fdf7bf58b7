"""The figure of early exit: accuracy against operations."""

from pathlib import Path

from matplotlib.figure import Figure

from tailmoe.training.figures.style import COLOURS, open_axes, save
from tailmoe.training.results.scores import ACCURACIES

LINES = {
    "many": (COLOURS[2], "^"),
    "overall": (COLOURS[0], "o"),
    "few": (COLOURS[1], "s"),
    "medium": (COLOURS[3], "D"),
}


def early_exit_figure(curve: dict, path: Path) -> None:
    """Accuracy, overall and of the shot groups, against the operations of an image, a point for each threshold T.

    Args:
        curve: What `early_exit_curve` returns.
        path: The PNG written.
    """
    points, without = curve["points"], curve["without"]
    spent = [100 * (1 - point["early_exit"]["flops_saved"]) for point in points]
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for title, (colour, marker) in LINES.items():
        name, label = ACCURACIES[title], "all images" if title == "overall" else f"{title}-shot"
        if without[name] is None:
            continue
        heights = [100 * point[name] for point in points]
        axes.plot(spent, heights, marker=marker, color=colour, markersize=4, label=label)
        axes.axhline(100 * without[name], color=colour, linestyle=":", linewidth=1)
    axes.plot([], [], color="0.3", linestyle=":", linewidth=1, label="without early exit")
    for place, point in zip(spent, points, strict=True):
        sign = "T = " if point is points[0] else ""
        axes.annotate(
            f"{sign}{point['early_exit']['threshold']:g}",
            (place, 100 * point["accuracy"]),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    gflops = points[0]["early_exit"]["gflops_without"]
    axes.set_xlabel(f"operations of an image (% of {gflops:.3g} GFLOP without early exit)")
    axes.set_ylabel(f"accuracy on {curve['split']} images (%)")
    open_axes(axes)
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    save(figure, path)
