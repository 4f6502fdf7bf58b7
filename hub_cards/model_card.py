"""The model card of a run, rendered from its results alone."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tailmoe.hub_cards import markdown
from tailmoe.hub_cards.repository import check_repo_id
from tailmoe.hub_cards.results_table import LISTED_CLASSES, format_table, table_rows
from tailmoe.hub_cards.study_of_run import find_study
from tailmoe.hub_cards.template import render
from tailmoe.training.data.sources import hub_id
from tailmoe.training.families import FAMILIES, ModelFamily
from tailmoe.training.recipes.shipped import recipe_yaml
from tailmoe.training.results.results import RESULTS_NAME, DataDescription, RunResults, StudyResults
from tailmoe.training.results.scores import EXPERT_METRICS, NOT_MEASURED, percent


def render_model_card(
    results: RunResults, repo_id: str | None = None, figures: Sequence[str] = (), study: StudyResults | None = None
) -> ModelCard:
    """Render the card of a run.

    Args:
        results: Of the run.
        repo_id: `owner/name` on the Hub, for the title and the example; the run's folder if None.
        figures: Paths of the figures, relative to the card.
        study: The one that the run is of, shown where it has several seeds; None if there is none.
    """
    dataset, metrics, kind = results.dataset, results.metrics, kind_of_model(results)
    family = FAMILIES.get(results.model_type)
    if study is not None and len(study.seeds) == 1:
        study = None  # the run itself
    per_class = {} if metrics is None else dict(enumerate(metrics.per_class_accuracy))
    scored = {c: accuracy for c, accuracy in per_class.items() if accuracy is not None}
    expert_rows = _expert_rows(results)
    content = render(
        "model_card.md",
        card_data=_card_data(results, repo_id).to_yaml(),
        title=_title(results, repo_id),
        repo_id=repo_id,
        results=results,
        test_images=results.measured_images,
        kind=kind,
        model_class=None if family is None else family.model.__name__,
        objective_class=_objective_class(family, kind),
        study=study,
        study_table=None if study is None else format_table(_study_rows(study), markdown=True),
        shot_caption=dataset.shot_bounds.caption,
        results_table=None if metrics is None else format_table(_result_rows(results), markdown=True),
        expert_table=format_table(expert_rows, markdown=True) if expert_rows else None,
        group_table=format_table(_group_rows(dataset), markdown=True),
        class_table=_class_table(dataset, per_class),
        hardest=min(scored, key=scored.get, default=None),
        figures={path: Path(path).stem.replace("_", " ").capitalize() for path in figures},
        recipe=markdown.code_block(recipe_yaml(results.recipe).strip(), "yaml"),
        hub_dataset=hub_id(dataset.name),
    )
    return ModelCard(content)


def write_card(run: str | Path, repo_id: str | None = None) -> Path:
    """Render the card of a run's folder anew, from its results, its figures and its study, and return its path.

    Raises:
        BadInputError: If the folder holds no finished run, a study of another run, or `repo_id` is no name of a
            repository.
    """
    folder = Path(run)
    if repo_id is not None:
        check_repo_id(repo_id)
    results = RunResults.load(folder / RESULTS_NAME)
    figures = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("figures/*.png"))]
    card = render_model_card(results, repo_id, figures, find_study(folder, results))
    card.save(folder / "README.md")
    return folder / "README.md"


def write_cards(folder: str | Path) -> None:
    """Render the cards of a run and its baseline anew, or those of all runs of a study; raises as `write_card`."""
    for path in sorted(Path(folder).glob(f"**/{RESULTS_NAME}")):
        write_card(path.parent)


def kind_of_model(results: RunResults) -> str:
    """What the network and its objective amount to, as its family tells; `"other"` for none of our models."""
    family = FAMILIES.get(results.model_type)
    return "other" if family is None else family.kind(results.config, results.recipe["objective"])


def _objective_class(family: ModelFamily | None, kind: str) -> str | None:
    """The class that fine-tunes the model as its paper does; None where the model's own loss does."""
    if family is None or kind not in family.paper_kinds:
        return None
    return next((objective.__name__ for objective in family.objectives.values()), None)


def _title(results: RunResults, repo_id: str | None) -> str:
    return markdown.one_line(results.name) if repo_id is None else repo_id.rpartition("/")[2]


def _card_data(results: RunResults, repo_id: str | None) -> ModelCardData:
    name, kind = markdown.one_line(results.dataset.name), kind_of_model(results)
    tags = ["tailmoe", "vision", "long-tailed", "class-imbalance", results.model_type]
    if (family := FAMILIES.get(results.model_type)) is not None:
        tags += ["baseline" if kind == "cross_entropy" else "mixture-of-experts", *family.paper_tags]
    on_hub = hub_id(name)
    return ModelCardData(
        license=results.license,
        base_model=results.base_model,
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=list(dict.fromkeys([*tags, *results.tags])),
        datasets=None if on_hub is None else [on_hub],
        metrics=["accuracy"],
        model_name=_title(results, repo_id),
        eval_results=_eval_results(results, on_hub or name),
    )


def _eval_results(results: RunResults, dataset_type: str) -> list[EvalResult] | None:
    if results.metrics is None:
        return None
    name = markdown.one_line(results.dataset.name)
    return [
        EvalResult(
            task_type="image-classification",
            task_name="Image classification",
            dataset_type=dataset_type,
            dataset_name=f"{name}, imbalance factor {results.setting['imbalance']}",
            dataset_split="test" if results.measured_images == "test images" else "validation",
            metric_type=metric,
            metric_name=metric.replace("_", " "),
            metric_value=value,
        )
        for metric, value in results.metrics.scalars.items()
    ]


def _result_rows(results: RunResults) -> list[dict[str, str]]:
    runs = [results] if results.baseline is None else [results.baseline, results]
    rows = []
    for run, row in zip(runs, table_rows(results), strict=True):
        experts = run.metrics.expert_accuracy or []
        row["model"] = markdown.plain(row["model"])
        row["each expert"] = " / ".join(map(percent, experts)) if len(experts) > 1 else NOT_MEASURED
        row["ECE"] = percent(run.metrics.ece)
        row["seed"] = str(run.seed)
        rows.append(row)
    return rows


def _study_rows(study: StudyResults) -> list[dict[str, str]]:
    return [row | {"model": markdown.plain(row["model"])} for row in table_rows(study)]


def _expert_rows(results: RunResults) -> list[dict[str, str]]:
    rows = []
    for run in (results.baseline, results):
        scalars = {} if run is None or run.metrics is None else run.metrics.scalars
        if EXPERT_METRICS[0] in scalars:
            shown = {name.replace("_", " "): f"{scalars[name]:.3f}" for name in EXPERT_METRICS}
            rows.append({"model": markdown.plain(run.title)} | shown)
    return rows


def _group_rows(dataset: DataDescription) -> list[dict[str, str]]:
    return [
        {
            "classes with": dataset.shot_bounds.ranges[group],
            "classes": str(len(members)),
            "training images": f"{sum(dataset.class_counts[c] for c in members):,}",
        }
        for group, members in dataset.shot_groups.items()
    ]


def _class_table(dataset: DataDescription, per_class: dict[int, float | None]) -> str | None:
    counts = dataset.class_counts
    if len(counts) > LISTED_CLASSES:
        return None
    return format_table(
        [
            {"class": markdown.plain(name), "training images": f"{n:,}", "accuracy": percent(per_class.get(c))}
            for c, (name, n) in enumerate(zip(dataset.label_names, counts, strict=True))
        ],
        markdown=True,
    )
