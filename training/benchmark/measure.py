"""Measuring: candidates in turn, median and spread, and how far the machine itself can go."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

MATRIX = 2048  # rows of the large matrices
PAUSE = 0.05  # seconds, for the threads of the candidate before to stop waiting for work


@dataclass(frozen=True)
class Spread:
    """Median and first and third quartile over repeats."""

    median: float
    quartiles: tuple[float, float]
    repeats: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of at least two values."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, (low, high), len(values))

    def per(self, amount: float) -> "Spread":
        """`amount` divided by this: a rate, where this is a time."""
        low, high = self.quartiles
        return Spread(amount / self.median, (amount / high, amount / low), self.repeats)


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
    naive, rate = times.get("naive"), Spread.of(times["ours"]).per(amount)
    compared = {"naive_baseline": None, "ratio": None}
    if naive is not None:
        ratios = [slow / fast for fast, slow in zip(times["ours"], naive, strict=True)]
        compared = {"naive_baseline": asdict(Spread.of(naive).per(amount)), "ratio": asdict(Spread.of(ratios))}
    return {"name": name, "unit": unit, "rate": asdict(rate), **compared, "target": target, "details": details}


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


def machine_limit(device: str, repeats: int) -> Spread:
    """GFLOP/s of a product of two large float32 matrices: what this machine can do at most."""
    a, b = torch.randn(2, MATRIX, MATRIX, device=device)
    times = times_in_turn({"product": lambda: a @ b}, device, repeats)
    return Spread.of(times["product"]).per(2 * MATRIX**3 / 1e9)
