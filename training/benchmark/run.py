"""The benchmark: which parts, on what, and its record."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from tailmoe.training.benchmark.backbones import backbone_figures, backbone_growth, draw_backbones
from tailmoe.training.benchmark.data import data_figures
from tailmoe.training.benchmark.growth import draw_growth, growth
from tailmoe.training.benchmark.losses import loss_figures
from tailmoe.training.benchmark.measure import Figure, Spread, large_copy, matrix_product, times_in_turn
from tailmoe.training.benchmark.memory import draw_memory, memory_growth
from tailmoe.training.benchmark.prediction import inference_figures
from tailmoe.training.benchmark.record import Benchmark
from tailmoe.training.benchmark.training import train_figures, trainer_figures
from tailmoe.training.environment import describe_environment
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
PARTS: dict[str, Callable[[str, int], list[Figure]]] = {
    "data": data_figures,
    "train": train_figures,
    "trainer": trainer_figures,
    "losses": loss_figures,
    "inference": inference_figures,
}

# what is measured along an axis, and how it is drawn
CURVES: dict[str, tuple[Callable[[str, int], dict], Callable[[dict, Path], None]]] = {
    "backbones": (backbone_growth, draw_backbones),
    "growth": (lambda device, repeats: growth(device), draw_growth),
    "memory": (lambda device, repeats: memory_growth(), draw_memory),
}
ON_REQUEST = ("memory",)


def run_benchmark(parts: list[str], device: str, repeats: int, json_path: Path | None = None) -> Benchmark:
    """Measure the parts and return the record.

    Args:
        parts: Keys of `PARTS` and `CURVES`; all but those of `ON_REQUEST` if empty.
        device: `"cpu"` or `"cuda"`.
        repeats: Rounds of each measurement, at least 2.
        json_path: Where the record is written; each curve is drawn into a PNG file beside it.

    Raises:
        BadInputError: If there is no CUDA device, or fewer than two repeats are asked for.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInputError("`--device cuda`: torch finds no CUDA device here; `--device cpu` measures the CPU.")
    if repeats < 2:
        raise BadInputError(f"`--repeats` must be at least 2, for a spread, got {repeats}.")
    record = Benchmark(device=device, limits=limits(device, repeats), figures=[], **describe_environment())
    for part in parts or [*PARTS, *(name for name in CURVES if name not in ON_REQUEST)]:
        logger.info("Measuring %s", part)
        if part in CURVES:
            measure, _ = CURVES[part]
            setattr(record, part, measure(device, repeats))
        else:
            record.figures += [figure.to_dict() for figure in PARTS[part](device, repeats)]
    if record.backbones is not None:
        record.figures += [figure.to_dict() for figure in backbone_figures(record.backbones)]
    if json_path is not None:
        record.save(json_path)
        for name, (_, draw) in CURVES.items():
            if (curve := getattr(record, name)) is not None:
                draw(curve, json_path.with_name(f"{json_path.stem}-{name}.png"))
    return record


def limits(device: str, repeats: int) -> dict[str, dict]:
    """What this machine can do at most: operations in a large matrix product, bytes in a large copy."""
    (product, work), (copy, traffic) = matrix_product(device), large_copy(device)
    times = times_in_turn({"product": product, "copy": copy}, device, max(repeats, 5))
    rates = {
        "float32 matrix product": ("GFLOP/s", Spread.of(times["product"]).per(work)),
        "copy": ("GB/s", Spread.of(times["copy"]).per(traffic)),
    }
    return {
        name: {"unit": unit, "median": rate.median, "quartiles": rate.quartiles}
        for name, (unit, rate) in rates.items()
    }
