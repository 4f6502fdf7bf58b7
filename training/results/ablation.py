"""What an ablation measured: the content of `ablation.json`."""

from dataclasses import dataclass
from typing import ClassVar

from tailmoe.training.results.records import Record, check_keys
from tailmoe.training.results.results import DataDescription, StudyResults
from tailmoe.training.results.scores import ACCURACIES, Spread


@dataclass(kw_only=True)
class ArmResults:
    """One arm of a change: the scalars of its study. All else would make the record ten times as long, or is the same for all.

    Args:
        runs: `seed` and `metrics` of each run, the scalars alone.
    """

    title: str
    num_parameters: int
    recipe: dict
    metrics: dict[str, Spread]
    train_seconds: Spread
    commit: str | None
    runs: list[dict]

    def __post_init__(self) -> None:
        check_keys("metrics", self.metrics, ("accuracy",))

    @classmethod
    def of(cls, study: StudyResults) -> "ArmResults":
        names = ("title", "num_parameters", "recipe", "metrics", "train_seconds", "commit")
        runs = [{"seed": run.seed, "metrics": run.metrics.scalars} for run in study.runs]
        return cls(**{name: getattr(study, name) for name in names}, runs=runs)

    @property
    def accuracies(self) -> dict[str, Spread | None]:
        """Those that tables show, by their titles."""
        return {title: self.metrics.get(name) for title, name in ACCURACIES.items()}


@dataclass
class Change:
    """A recipe with one thing changed.

    Args:
        group: Of changes that belong together; None for the recipe as it is.
        overrides: What makes the change, as of `load_recipe`.
        study: Of the changed recipe.
        baseline: Of its baseline with the same change, where the recipe has one.
    """

    group: str | None
    name: str
    overrides: list[str]
    study: ArmResults
    baseline: ArmResults | None


@dataclass(kw_only=True)
class Ablation(Record):
    """A recipe as it is, the first of `changes`, and with each change.

    Args:
        recipe: Its name.
        dataset: Of all runs, with validation images to measure on.
        seeds: The same for every change.
    """

    KIND: ClassVar[str] = "ablation"
    NOUN: ClassVar[str] = "an ablation"
    WRITER: ClassVar[str] = "tailmoe ablation"

    recipe: str
    dataset: DataDescription
    seeds: list[int]
    changes: list[Change]
