"""Measuring: candidates in turn, median and spread, and how far the machine itself can go."""

import gc
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

MATRIX, COPY = 2048, 2**26  # side of the product; numbers of the copy

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


@dataclass(frozen=True)
class Figure:
    """One line of the benchmark: a rate, higher is better, beside that of the obvious way.

    Args:
        case: Which benchmark it belongs to.
        name: What was measured.
        unit: Of the rates.
        rate: Ours.
        reference: The obvious way's; None where there is none.
        ratio: Ours by the reference, of the same round each.
        target: The least ratio wanted; None for none.
        details: Sizes, and shares of the machine's limit.
    """

    case: str
    name: str
    unit: str
    rate: Spread
    reference: Spread | None = None
    ratio: Spread | None = None
    target: float | None = None
    details: dict = field(default_factory=dict)

    def to_dict(self) -> dict:
        """As the benchmark's JSON has it."""
        return asdict(self)


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
    candidates: dict[str, Callable[[], object]], device: str, repeats: int, warmups: int = 1, least: float = 0.05
) -> dict[str, list[float]]:
    """Seconds a call of each candidate, measured in turn: a machine that slows down slows all of them.

    Args:
        candidates: What is called, by name.
        device: `"cpu"` or `"cuda"`.
        repeats: Rounds.
        warmups: Calls before the first round.
        least: Seconds that a measurement takes at least; short calls are repeated.
    """
    calls = {}
    for name, function in candidates.items():
        for _ in range(warmups):
            function()
        calls[name] = max(round(least / max(seconds(function, device), 1e-9)), 1)
    gc.collect()
    times = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, function in candidates.items():
            time.sleep(PAUSE)
            times[name].append(seconds(function, device, calls[name]))
    return times


def compare(
    case: str,
    name: str,
    unit: str,
    amount: float,
    times: dict[str, list[float]],
    target: float | None = None,
    **details: object,
) -> Figure:
    """The figure of `times["ours"]` beside `times["reference"]`, if there is one, for `amount` units a call."""
    ours, reference = times["ours"], times.get("reference")
    ratios = None if reference is None else [slow / fast for fast, slow in zip(ours, reference, strict=True)]
    return Figure(
        case,
        name,
        unit,
        Spread.of(ours).per(amount),
        None if reference is None else Spread.of(reference).per(amount),
        None if ratios is None else Spread.of(ratios),
        target,
        details,
    )


def matrix_product(device: str) -> tuple[Callable[[], object], float]:
    """A product of two large float32 matrices, and its operations in GFLOP."""
    a, b = torch.randn(2, MATRIX, MATRIX, device=device)
    return lambda: a @ b, 2 * MATRIX**3 / 1e9


def large_copy(device: str) -> tuple[Callable[[], object], float]:
    """A copy of 256 MB, and the GB it reads and writes."""
    source = torch.ones(COPY, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * source.nbytes / 1e9


def peak_megabytes(device: str) -> float:
    """Largest memory of this process so far: resident on a CPU, allocated by torch on a CUDA device."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands its figure of `getrusage` down from parent to child
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS
