"""The figure of a data set."""

from pathlib import Path

from matplotlib.figure import Figure

from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.figures.style import COLOURS, NAMED_CLASSES, count_ticks, save, short


def class_counts_figure(
    counts_of: dict[str, list[int]], label_names: list[str], path: Path, shot: ShotBounds | None
) -> None:
    """Training images of each class, the largest first, one line for each split of `counts_of`; the bounds they share."""
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
    bounds = []
    if shot is not None:
        bounds = [(shot.many_above, "many-shot above", "bottom"), (shot.few_below, "few-shot below", "top")]
    for bound, label, side in bounds:
        if smallest < bound < largest:
            axes.axhline(bound, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
            axes.text(0.01, bound, label, transform=axes.get_yaxis_transform(), va=side, fontsize=9, color="0.3")
    count_ticks(axes.yaxis)
    first = next(iter(counts_of.values()))
    if len(first) <= NAMED_CLASSES:
        order = sorted(range(len(first)), key=lambda c: -first[c])
        axes.set_xticks(range(len(first)), [short(label_names[c]) for c in order], rotation=30, ha="right")
    axes.set_xlabel("class, from most to fewest training images")
    axes.set_ylabel("training images (logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    save(figure, path)
