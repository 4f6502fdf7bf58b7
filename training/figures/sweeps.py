"""The figure of an ablation."""

from pathlib import Path

from matplotlib.figure import Figure

from tailmoe.training.figures.style import MODEL_COLOUR, open_axes, save


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
        open_axes(axes)
    panels[0].set_ylabel("accuracy on validation images (%)")
    save(figure, path)
