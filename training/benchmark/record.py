"""What a benchmark measured: the content of the file of `tailmoe benchmark --json`."""

from dataclasses import dataclass
from typing import ClassVar

from tailmoe.training.records import Record, check_keys

FIGURE = ("case", "name", "unit", "rate", "reference", "ratio", "target", "details")


@dataclass(kw_only=True)
class Benchmark(Record):
    """Rates of parts, beside the same parts written the obvious way.

    Args:
        device: `"cpu"` or `"cuda"`.
        limits: What the machine can do at most: `unit`, `median` and `quartiles`, by name.
        figures: As `Figure.to_dict` gives them.
        backbones, growth, memory: What was measured along an axis; None for what was not asked for.
    """

    KIND: ClassVar[str] = "benchmark"
    NOUN: ClassVar[str] = "a benchmark"
    WRITER: ClassVar[str] = "tailmoe benchmark --json"

    device: str
    limits: dict[str, dict]
    figures: list[dict]
    backbones: dict | None = None
    growth: dict | None = None
    memory: dict | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keys("versions", self.versions, ("torch",))
        for name, limit in self.limits.items():
            check_keys(f"limits.{name}", limit, ("unit", "median"))
        for index, figure in enumerate(self.figures):
            check_keys(f"figures[{index}]", figure, FIGURE)
