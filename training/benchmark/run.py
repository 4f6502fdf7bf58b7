"""The benchmark: which parts, on what, and its record."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from tailmoe.training.benchmark.data import data_figures
from tailmoe.training.benchmark.growth import draw_growth, growth
from tailmoe.training.benchmark.losses import loss_figures
from tailmoe.training.benchmark.measure import Figure, Spread, large_copy, matrix_product, times_in_turn
from tailmoe.training.benchmark.memory import draw_memory, memory_growth
from tailmoe.training.benchmark.prediction import inference_figures
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
GROWTH, MEMORY = "growth", "memory"


def run_benchmark(parts: list[str], device: str, repeats: int, json_path: Path | None = None) -> dict:
    """Measure the parts and return the record: limits of the machine, figures, growth, environment.

    Args:
        parts: Keys of `PARTS`, `"growth"` or `"memory"`; all but the last if empty.
        device: `"cpu"` or `"cuda"`.
        repeats: Rounds of each measurement, at least 2.
        json_path: Where the record is written; what growth and memory draw are PNG files beside it.

    Raises:
        BadInputError: If there is no CUDA device, or fewer than two repeats are asked for.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInputError("`--device cuda`: torch finds no CUDA device here; `--device cpu` measures the CPU.")
    if repeats < 2:
        raise BadInputError(f"`--repeats` must be at least 2, for a spread, got {repeats}.")
    record = {"device": device, "limits": limits(device, repeats), "figures": [], GROWTH: None, MEMORY: None}
    for part in parts or [*PARTS, GROWTH]:
        logger.info("Measuring %s", part)
        if part == GROWTH:
            record[GROWTH] = growth(device)
        elif part == MEMORY:
            record[MEMORY] = memory_growth()
        else:
            record["figures"] += [figure.to_dict() for figure in PARTS[part](device, repeats)]
    record |= describe_environment()
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(record, indent=2) + "\n")
        if record[GROWTH] is not None:
            draw_growth(record[GROWTH], json_path.with_suffix(".png"))
        if record[MEMORY] is not None:
            draw_memory(record[MEMORY], json_path.with_name(f"{json_path.stem}-memory.png"))
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
