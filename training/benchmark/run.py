"""The benchmark: which parts, on what, and its record."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from tailmoe.training.benchmark.backbones import backbone_figures
from tailmoe.training.benchmark.data import data_figures
from tailmoe.training.benchmark.losses import loss_figures
from tailmoe.training.benchmark.measure import machine_limit
from tailmoe.training.benchmark.memory import draw_memory, memory_growth
from tailmoe.training.benchmark.prediction import inference_figures
from tailmoe.training.benchmark.record import Benchmark
from tailmoe.training.benchmark.training import train_figures, trainer_figures
from tailmoe.training.errors import BadInputError
from tailmoe.training.results.environment import describe_environment

logger = logging.getLogger(__name__)
MEMORY = "memory"  # on request alone
PARTS: dict[str, Callable[[str, int], list[dict]]] = {
    "data": data_figures,
    "train": train_figures,
    "trainer": trainer_figures,
    "losses": loss_figures,
    "inference": inference_figures,
    "backbones": backbone_figures,
}


def run_benchmark(parts: list[str], device: str, repeats: int, json_path: Path | None = None) -> Benchmark:
    """Measure the parts and return the record: limits of the machine, figures, memory if asked for, environment.

    Args:
        parts: Keys of `PARTS`, and `"memory"`; all but the latter if empty.
        device: `"cpu"` or `"cuda"`.
        repeats: Rounds of each measurement, at least 2.
        json_path: Where the record is written; memory is drawn into a PNG file beside it.

    Raises:
        BadInputError: If there is no CUDA device, or fewer than two repeats are asked for.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInputError("`--device cuda`: torch finds no CUDA device here; `--device cpu` measures the CPU.")
    if repeats < 2:
        raise BadInputError(f"`--repeats` must be at least 2, for a spread, got {repeats}.")
    limit = machine_limit(device, max(repeats, 5))
    record = Benchmark(device=device, limits={"float32 matrix product": limit}, figures=[], **describe_environment())
    for part in parts or PARTS:
        logger.info("Measuring %s", part)
        if part == MEMORY:
            record.memory = memory_growth()
        else:
            record.figures += [{"case": part} | figure for figure in PARTS[part](device, repeats)]
    for figure in record.figures:
        if "gflop" in figure["details"]:
            reached = figure["rate"]["median"] * figure["details"]["gflop"]
            figure["details"]["share_of_limit"] = reached / limit["median"]
    if json_path is not None:
        record.save(json_path)
        if record.memory is not None:
            draw_memory(record.memory, json_path.with_name(f"{json_path.stem}-memory.png"))
    return record
