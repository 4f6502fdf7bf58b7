"""What a benchmark measured: the content of the file of `tailmoe benchmark --json`."""

from dataclasses import dataclass
from typing import ClassVar

from tailmoe.training.results.records import Record, check_keys

FIGURE = ("case", "name", "unit", "rate", "naive_baseline", "ratio", "target", "details")


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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keys("versions", self.versions, ("torch",))
        for name, limit in self.limits.items():
            check_keys(f"limits.{name}", limit, ("unit", "median"))
        for index, figure in enumerate(self.figures):
            check_keys(f"figures[{index}]", figure, FIGURE)
