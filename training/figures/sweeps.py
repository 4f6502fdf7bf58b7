"""The figure of an ablation."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tailmoe.training.figures.style import BASELINE_COLOUR, MODEL_COLOUR, open_axes, save
from tailmoe.training.results.ablation import Ablation, Change

PANELS_IN_A_ROW = 4


def sweeps_figure(ablation: Ablation, path: Path) -> None:
    """Accuracy of each change, a panel for each group: mean and standard deviation over seeds.

    Numbers are joined by a line, on a logarithmic axis where they span more than a factor of ten; a dashed line is the
    recipe as it is. The baseline, where there is one, has colours of its own.
    """
    as_it_is, *changes = ablation.changes
    groups: dict[str, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.group, []).append(change)
    columns = min(len(groups), PANELS_IN_A_ROW)
    rows = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(3.4 * columns, 3.3 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (group, members) in zip(panels.flat, groups.items(), strict=False):
        _panel(axes, members, as_it_is)
        axes.set_title(group, fontsize=11)
    for axes in panels.flat[len(groups) :]:
        axes.axis("off")
    for line in panels:
        line[0].set_ylabel("validation accuracy (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)
    save(figure, path)


def _panel(axes: Axes, changes: list[Change], as_it_is: Change) -> None:
    names = [change.name for change in changes]
    swept = all(name.replace(".", "", 1).isdigit() for name in names)
    places = [float(name) for name in names] if swept else list(range(len(names)))
    arms = [(as_it_is.study, [change.study for change in changes], MODEL_COLOUR, "o")]
    if as_it_is.baseline is not None:
        arms = [(as_it_is.baseline, [change.baseline for change in changes], BASELINE_COLOUR, "s"), *arms]
    for plain, changed, colour, marker in arms:
        spreads = [arm.metrics["accuracy"] for arm in changed]
        means, stds = [100 * each.mean for each in spreads], [100 * (each.std or 0) for each in spreads]
        style = {"linestyle": "-" if swept else "none", "marker": marker, "color": colour, "capsize": 3}
        axes.errorbar(places, means, stds, label=plain.title, **style)
        axes.axhline(100 * plain.metrics["accuracy"].mean, color=colour, linestyle="--", linewidth=0.8)
    if swept and min(places) > 0 and max(places) / min(places) > 10:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(places, names, rotation=0 if swept else 20, ha="center" if swept else "right")
    axes.margins(x=0.15)
    open_axes(axes)
