"""What a benchmark measured: the content of the file of `tailmoe benchmark --json`."""

from dataclasses import dataclass
from typing import ClassVar

from tailmoe.training.records import Record


@dataclass(kw_only=True)
class Benchmark(Record):
    """Rates of parts, beside naive baselines.

    Args:
        device: `"cpu"` or `"cuda"`.
        limits: What the machine can do at most: `unit`, `median` and `quartiles`, by name.
        figures: As `training.benchmark.measure.figure` makes them, with the `case` each belongs to.
        memory: Against the size of the data set; None where it was not asked for.
    """

    KIND: ClassVar[str] = "benchmark"
    NOUN: ClassVar[str] = "a benchmark"
    WRITER: ClassVar[str] = "tailmoe benchmark --json"

    device: str
    limits: dict[str, dict]
    figures: list[dict]
    memory: dict | None = None
