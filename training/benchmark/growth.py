"""How the time of a training step grows with batch size, experts, classes and image size."""

from pathlib import Path

from matplotlib.figure import Figure as Drawing

from tailmoe.training.benchmark.losses import snnl_memory
from tailmoe.training.benchmark.measure import Spread, times_in_turn
from tailmoe.training.benchmark.setting import CLASSES, EXPERTS, SIZE, cifar_config, make_network, random_batch
from tailmoe.training.benchmark.training import fast_update, obvious_update
from tailmoe.training.figures import BASELINE_COLOUR, DPI, MODEL_COLOUR

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
    """Five panels, both axes logarithmic: a straight line of slope 1 is growth in proportion."""
    figure = Drawing(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, 3).flatten()
    for axes, (axis, points) in zip(panels, measured["steps"].items(), strict=False):
        values = [point[axis] for point in points]
        for name, colour, label in (
            ("ours", MODEL_COLOUR, "tailmoe"),
            ("reference", BASELINE_COLOUR, "the obvious way"),
        ):
            axes.plot(values, [1000 * point[name] for point in points], "o-", color=colour, label=label)
        axes.set(xscale="log", yscale="log", xlabel=axis, ylabel="ms a training step")
        axes.set_xticks(values, [str(value) for value in values], minor=False)
        axes.set_xticks([], minor=True)
    panels[0].legend()
    memory = measured["snnl_memory"]
    panels[4].plot(memory["batch_sizes"], memory["megabytes"], "o-", color=MODEL_COLOUR)
    panels[4].set(xscale="log", yscale="log", xlabel="batch size", ylabel="MB added by the SNNL", ylim=(1, None))
    panels[4].set_xticks(memory["batch_sizes"], [str(size) for size in memory["batch_sizes"]], minor=False)
    panels[4].set_xticks([], minor=True)
    panels[5].axis("off")
    figure.savefig(path, dpi=DPI)
