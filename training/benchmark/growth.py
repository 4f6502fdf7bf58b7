"""How the time of a training step grows with batch size, experts, classes and image size."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from tailmoe.training.benchmark.losses import snnl_memory
from tailmoe.training.benchmark.measure import Spread, times_in_turn
from tailmoe.training.benchmark.setting import CLASSES, EXPERTS, SIZE, cifar_config, make_network, random_batch
from tailmoe.training.benchmark.training import fast_update, obvious_update
from tailmoe.training.figures.style import BASELINE_COLOUR, DPI, MODEL_COLOUR

AXES = {
    "batch size": (16, 32, 64, 128, 256),
    "experts": (1, 2, 4, 8),
    "classes": (10, 100, 1000),
    "image size": (16, 32, 64, 128),
}
BATCH = 32  # of all axes but its own
REPEATS = 3


def growth(device: str) -> dict:
    """Seconds of a step, ours and the obvious way's, along each axis, and the memory of the soft nearest neighbour loss."""
    curves = {axis: [_point(device, axis, value) for value in values] for axis, values in AXES.items()}
    return {"steps": curves, "snnl_memory": snnl_memory(device)}


def _point(device: str, axis: str, value: int) -> dict:
    at = {"batch size": BATCH, "experts": EXPERTS, "classes": CLASSES, "image size": SIZE} | {axis: value}
    config = cifar_config(at["experts"], at["classes"], image_size=at["image size"])
    images, labels = random_batch(at["batch size"], at["image size"], at["classes"], device)
    ours, reference = fast_update(*make_network(config, device)), obvious_update(*make_network(config, device))
    times = times_in_turn(
        {"ours": lambda: ours(images, labels), "reference": lambda: reference(images, labels)}, device, REPEATS
    )
    return {axis: value} | {name: Spread.of(values).median for name, values in times.items()}


def draw_growth(measured: dict, path: Path) -> None:
    """Five panels, both axes logarithmic; the dotted lines grow in proportion."""
    figure = Drawing(figsize=(11, 6), layout="constrained")
    panels = figure.subplot_mosaic("AABBCC;DDDEEE")
    for name, (axis, points) in zip("ABCD", measured["steps"].items(), strict=True):
        values = [point[axis] for point in points]
        curves = {
            label: [1000 * point[key] for point in points]
            for key, label in (("ours", "tailmoe"), ("reference", "the obvious way"))
        }
        _panel(panels[name], axis, values, "ms a training step", curves)
    memory = measured["snnl_memory"]
    curves = {"tailmoe": memory["megabytes"]}
    _panel(panels["E"], "batch size", memory["batch_sizes"], "MB added by the SNNL", curves)
    panels["A"].legend()
    figure.savefig(path, dpi=DPI)


def _panel(axes: Axes, xlabel: str, values: list[int], ylabel: str, curves: dict[str, list[float]]) -> None:
    for (label, curve), colour in zip(curves.items(), (MODEL_COLOUR, BASELINE_COLOUR), strict=False):
        axes.plot(values, curve, "o-", color=colour, label=label)
    every = [value for curve in curves.values() for value in curve]
    start = next(iter(curves.values()))[0]
    axes.plot(values, [start * value / values[0] for value in values], ":", color="grey", label="in proportion")
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel, ylim=(min(every) / 2, max(every) * 2))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(values, [str(value) for value in values])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())
