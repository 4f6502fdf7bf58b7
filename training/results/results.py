"""What a run or a study measured: the content of `results.json` and `study.json`, and the words for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, ClassVar

from tailmoe.training.data.shot_groups import ShotBounds, shot_groups
from tailmoe.training.errors import BadInputError
from tailmoe.training.recipes.shipped import DEFAULT_EPOCHS
from tailmoe.training.results.environment import describe_environment, peak_memory_gb
from tailmoe.training.results.records import Record, check_keys
from tailmoe.training.results.scores import ACCURACIES, Metrics, Spread

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RESULTS_NAME, STUDY_NAME = "results.json", "study.json"


@dataclass(kw_only=True)
class DataDescription:
    """The data of a run.

    Args:
        name: As `load_long_tailed` takes it.
        imbalance_factor: Largest over smallest class.
        class_counts: Training images of each class.
        shot_bounds: Of its shot groups.
        num_train, num_test: Images trained on and measured on.
        selection: As of `make_long_tailed`; None where that is not known.
        left_out: Images that are not used, by reason.
        num_skipped: Those and the ones that could not be read; None where that is not known.
        num_shared: Test images that are training images too; None where that is not known.
    """

    name: str
    imbalance_factor: float
    class_counts: list[int]
    label_names: list[str]
    shot_bounds: ShotBounds
    num_train: int
    num_test: int
    selection: str | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    num_skipped: int | None = None
    num_shared: int | None = None

    @property
    def shot_groups(self) -> dict[str, list[int]]:
        """Class ids of the groups `many`, `medium` and `few`."""
        return shot_groups(self.class_counts, self.shot_bounds)


@dataclass(kw_only=True)
class Results(Record):
    """What a run and a study tell alike.

    Args:
        name: Of the recipe, or of the run.
        title: What tables and figures call the model.
        description: One sentence; None for a run that no recipe describes.
        config: Of the model, without what the data tells.
        recipe: The sections `model`, `data`, `training` and `objective`, and all other keys of a recipe if there is one.
    """

    name: str
    title: str
    description: str | None
    model_type: str
    num_parameters: int
    config: dict
    dataset: DataDescription
    recipe: dict

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keys("recipe", self.recipe, ("model", "data", "training", "objective"))

    @property
    def measured_images(self) -> str:
        """What to call the images measured on; without a recipe nobody knows what they are for."""
        if self.recipe["data"].get("validation_per_class"):
            return "validation images"
        return "evaluation images" if self.description is None else "test images"

    @property
    def setting(self) -> dict[str, str]:
        """What was trained on, and for how long, in words."""
        return {
            "data": self.dataset.name,
            "imbalance": f"{self.dataset.imbalance_factor:.4g}",
            "epochs": f"{self.recipe['training'].get('num_train_epochs', DEFAULT_EPOCHS):g}",
        }


@dataclass(kw_only=True)
class FixedImages:
    """By which a published model is known to be the same.

    Args:
        made: The code that makes the images.
        logits: Of each.
    """

    made: str
    logits: list[list[float]]


@dataclass(kw_only=True)
class RunResults(Results):
    """One run.

    Args:
        metrics: None without images to evaluate on.
        baseline: The run to compare with.
        seed: Of weights, order and augmentation.
        train_seconds: None if not measured.
        precision: What the network computed in while it trained; None if not recorded.
        kept_epoch: The epoch whose weights were kept, as they were the best of evaluation images; None if they are the last.
        base_model: Hub id of what the training started from.
        license: Of the weights; none is claimed if None.
        tags: Further tags of the card.
        fixed_images: Of a model in `hub_cards/models`.
    """

    KIND: ClassVar[str] = "run"
    NOUN: ClassVar[str] = "the results of a run"
    WRITER: ClassVar[str] = "tailmoe train"

    metrics: Metrics | None
    baseline: "RunResults | None"
    seed: int
    train_seconds: float | None
    precision: str | None
    peak_memory_gb: float
    kept_epoch: float | None = None
    base_model: str | None = None
    license: str | None
    tags: list[str] = field(default_factory=list)
    fixed_images: FixedImages | None = None

    @property
    def seeds(self) -> list[int]:
        return [self.seed]

    @property
    def accuracies(self) -> dict[str, float | None]:
        """Those that tables show, by their titles."""
        measured = {} if self.metrics is None else vars(self.metrics)
        return {title: measured.get(name) for title, name in ACCURACIES.items()}


def run_results(
    model: "PreTrainedModel", *, metrics: dict | None, base_model: str | None = None, **others: object
) -> RunResults:
    """The results of a run that ends now.

    Args:
        model: As trained.
        metrics: As `evaluate_images` returns them.
        base_model: Hub id of what the training started from; that of the backbone if None.
        **others: What neither the model nor the machine tells, as of `RunResults`.
    """
    from tailmoe.training.data.sources import hub_id
    from tailmoe.training.families import FAMILIES

    model_type, config = model.config.model_type, model.config.to_dict()
    known = FAMILIES[model_type].config_fields if model_type in FAMILIES else []
    backbone = config.get("backbone")
    return RunResults(
        model_type=model_type,
        num_parameters=model.num_parameters(),
        config={name: config[name] for name in known if name != "class_counts"},
        metrics=None if metrics is None else Metrics(**metrics),
        peak_memory_gb=peak_memory_gb(),
        base_model=base_model or (None if backbone is None else hub_id(backbone)),
        **describe_environment(),
        **others,
    )


@dataclass(kw_only=True)
class SeedResults:
    """One run of a study, without the confusions, which make a study of many classes and seeds a hundred times as long."""

    seed: int
    metrics: Metrics
    train_seconds: float | None
    precision: str | None
    peak_memory_gb: float

    @classmethod
    def of(cls, run: RunResults) -> "SeedResults":
        own = {name: getattr(run, name) for name in ("seed", "train_seconds", "precision", "peak_memory_gb")}
        return cls(**own, metrics=replace(run.metrics, confusion_matrix=None))


@dataclass(kw_only=True)
class StudyResults(Results):
    """Runs that differ in their seed alone.

    Args:
        seeds: Of the runs.
        metrics: Of the scalars that the runs have, by name.
        runs: In the order of `seeds`.
        baseline: The study of their baselines.
    """

    KIND: ClassVar[str] = "study"
    NOUN: ClassVar[str] = "a study"
    WRITER: ClassVar[str] = "tailmoe study"

    seeds: list[int]
    metrics: dict[str, Spread]
    train_seconds: Spread
    runs: list[SeedResults]
    baseline: "StudyResults | None"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keys("metrics", self.metrics, ("accuracy",))

    @classmethod
    def of(cls, runs: Sequence[RunResults], command: str) -> "StudyResults":
        """The study of runs, with the environment of the last.

        Raises:
            BadInputError: If the runs were made at different commits.
        """
        commits = sorted({str(run.commit) for run in runs})
        if len(commits) > 1:
            raise BadInputError(f"Seeds were trained at different commits ({', '.join(commits)}): train them again.")
        shared = {each.name: getattr(runs[-1], each.name) for each in fields(Results)} | {"command": command}
        baselines = [run.baseline for run in runs if run.baseline is not None]
        return cls(
            **shared,
            seeds=[run.seed for run in runs],
            metrics={name: Spread.of([vars(run.metrics)[name] for run in runs]) for name in runs[0].metrics.scalars},
            train_seconds=Spread.of([run.train_seconds for run in runs]),
            runs=[SeedResults.of(run) for run in runs],
            baseline=cls.of(baselines, command) if baselines else None,
        )

    @property
    def accuracies(self) -> dict[str, Spread | None]:
        """Those that tables show, by their titles."""
        return {title: self.metrics.get(name) for title, name in ACCURACIES.items()}

    def values(self, metric: str) -> list[float]:
        """One metric of each run."""
        return [vars(run.metrics)[metric] for run in self.runs]
