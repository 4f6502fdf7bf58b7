"""Measuring: candidates in turn, median and spread, and how far the machine itself can go."""

import gc
import statistics
import time
from collections.abc import Callable

import torch

MATRIX = 2048  # rows of the large matrices
PAUSE = 0.05  # seconds, for the threads of the candidate before to stop waiting for work


def spread(values: list[float]) -> dict:
    """`median`, `quartiles`, the first and the third, and number of `repeats` of at least two values."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "quartiles": [low, high], "repeats": len(values)}


def figure(
    name: str, unit: str, amount: float, times: dict[str, list[float]], target: float | None = None, **details: object
) -> dict:
    """One line of the benchmark, as its JSON has it: rates, higher is better.

    Args:
        name: What was measured.
        unit: Of the rates.
        amount: Units of one call.
        times: Seconds a call of `ours`; where there is a naive baseline, of `naive` in the same rounds.
        target: The least ratio of the two rates that is wanted; None for none.
        details: Sizes; `gflop`, the operations of a unit, where they are what limits the rate.
    """
    ours, naive, compared = times["ours"], times.get("naive"), {"naive_baseline": None, "ratio": None}
    if naive is not None:
        ratios = [slow / fast for fast, slow in zip(ours, naive, strict=True)]
        compared = {"naive_baseline": spread([amount / each for each in naive]), "ratio": spread(ratios)}
    rate = spread([amount / each for each in ours])
    return {"name": name, "unit": unit, "rate": rate, **compared, "target": target, "details": details}


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(function: Callable[[], object], device: str, calls: int = 1) -> float:
    """Seconds of one call, from `calls` in a row."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def times_in_turn(
    candidates: dict[str, Callable[[], object]], device: str, repeats: int, least: float = 0.05
) -> dict[str, list[float]]:
    """Seconds a call of each candidate, measured in turn: a machine that slows down slows all of them.

    Args:
        candidates: What is called, by name.
        device: `"cpu"` or `"cuda"`.
        repeats: Rounds.
        least: Seconds that a measurement takes at least; short calls are repeated.
    """
    calls = {}
    for name, function in candidates.items():
        function()
        calls[name] = max(round(least / max(seconds(function, device), 1e-9)), 1)
    gc.collect()
    times = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, function in candidates.items():
            time.sleep(PAUSE)
            times[name].append(seconds(function, device, calls[name]))
    return times


def machine_limit(device: str, repeats: int) -> dict:
    """The rate of a product of two large float32 matrices: what this machine can do at most."""
    a, b = torch.randn(2, MATRIX, MATRIX, device=device)
    times = times_in_turn({"product": lambda: a @ b}, device, repeats)
    return {"unit": "GFLOP/s"} | spread([2 * MATRIX**3 / 1e9 / each for each in times["product"]])
