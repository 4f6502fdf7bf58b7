"""The figure of an ablation."""

from pathlib import Path

from matplotlib.figure import Figure

from tailmoe.training.figures.style import BASELINE_COLOUR, MODEL_COLOUR, open_axes, save


def sweeps_figure(ablation: dict, path: Path) -> None:
    """Accuracy against each number that an ablation sweeps, mean and standard deviation over seeds; none, no figure.

    The baseline, where there is one, is a second line.
    """
    groups: dict[str, list[dict]] = {}
    for change in ablation["changes"]:
        if change["group"] is not None and change["name"].replace(".", "", 1).isdigit():
            groups.setdefault(change["group"], []).append(change)
    if not groups:
        return
    figure = Figure(figsize=(3.6 * len(groups), 3.4), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (group, changes) in zip(panels, groups.items(), strict=True):
        changes = sorted(changes, key=lambda change: float(change["name"]))
        places = [float(change["name"]) for change in changes]
        for arm, colour, marker in (("baseline", BASELINE_COLOUR, "s"), ("study", MODEL_COLOUR, "o")):
            if changes[0][arm] is not None:
                spreads = [change[arm]["metrics"]["accuracy"] for change in changes]
                means, stds = [100 * each["mean"] for each in spreads], [100 * (each["std"] or 0) for each in spreads]
                label = changes[0][arm]["title"] if axes is panels[0] else None
                axes.errorbar(places, means, stds, marker=marker, color=colour, capsize=3, label=label)
        if min(places) > 0 and max(places) / min(places) > 10:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xlabel(group)
        axes.set_xticks(places, [f"{place:g}" for place in places])
        open_axes(axes)
    panels[0].set_ylabel("accuracy on validation images (%)")
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    save(figure, path)
