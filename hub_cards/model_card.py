"""The model card of a run, rendered from its results alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tailmoe.hub_cards import markdown
from tailmoe.hub_cards.repository import check_repo_id
from tailmoe.hub_cards.results_table import (
    LISTED_CLASSES,
    NOT_MEASURED,
    format_table,
    measured_images,
    percent,
    table_rows,
)
from tailmoe.hub_cards.template import render
from tailmoe.training.data.sources import hub_id
from tailmoe.training.errors import BadInputError
from tailmoe.training.families import FAMILIES, ModelFamily
from tailmoe.training.recipe_files import recipe_yaml
from tailmoe.training.shot_groups import ShotBounds, shot_groups

LICENSE = "apache-2.0"  # of what recipes train
EXPERT_METRICS = ("expert_specialization_entropy", "gate_load_balance", "pairwise_embedding_similarity")
STUDY_NAME = "study.json"


def render_model_card(
    results: dict, repo_id: str | None = None, figures: Sequence[str] = (), study: dict | None = None
) -> ModelCard:
    """Render the card of a run.

    Args:
        results: Content of a run's `results.json`.
        repo_id: `owner/name` on the Hub, for the title and the example; the run's folder if None.
        figures: Paths of the figures, relative to the card.
        study: Of the same recipe, as `tailmoe.training.study.summarise` returns it, shown where it has several seeds;
            None if there is none.

    Raises:
        jinja2.UndefinedError, KeyError: If the results lack a value that the card shows.
    """
    dataset, metrics, kind = results["dataset"], results["metrics"], _kind_of(results)
    family = FAMILIES.get(results["model_type"])
    bounds = ShotBounds.of_results(dataset)
    if study is not None and len(study["seeds"]) == 1:
        study = None  # the run itself
    per_class = {} if metrics is None else dict(enumerate(metrics["per_class_accuracy"]))
    scored = {c: accuracy for c, accuracy in per_class.items() if accuracy is not None}
    expert_rows = _expert_rows(results)
    content = render(
        "model_card.md",
        card_data=_card_data(results, repo_id).to_yaml(),
        title=_title(results, repo_id),
        repo_id=repo_id,
        results=results,
        test_images=measured_images(results),
        kind=kind,
        model_class=None if family is None else family.model.__name__,
        objective_class=_objective_class(family, kind),
        study=study,
        study_table=None if study is None else format_table(_study_rows(study), markdown=True),
        shot_caption=bounds.caption,
        results_table=None if metrics is None else format_table(_result_rows(results), markdown=True),
        expert_table=format_table(expert_rows, markdown=True) if expert_rows else None,
        group_table=format_table(_group_rows(dataset["class_counts"], bounds), markdown=True),
        class_table=_class_table(dataset, per_class),
        hardest=min(scored, key=scored.get, default=None),
        figures={path: Path(path).stem.replace("_", " ").capitalize() for path in figures},
        recipe=markdown.code_block(recipe_yaml(results["recipe"]).strip(), "yaml"),
        hub_dataset=hub_id(dataset["name"]),
    )
    return ModelCard(content)


def write_card(run: str | Path, repo_id: str | None = None) -> Path:
    """Render the card of a run's folder anew, from `results.json`, `study.json` if any, and `figures/*.png`; return its path.

    Raises:
        BadInputError: If the folder holds no finished run, a study of another recipe, or `repo_id` is no name of a
            repository.
    """
    folder = Path(run)
    if repo_id is not None:
        check_repo_id(repo_id)
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        figures = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("figures/*.png"))]
        study = _study_of(folder / STUDY_NAME, results)
        card = render_model_card(results, repo_id, figures, study)
    except OSError as error:
        raise BadInputError(f"`{run}` holds no finished run: results.json: {error.strerror}.") from None
    except BadInputError:
        raise
    except (ValueError, TypeError) as error:
        raise BadInputError(f"`{folder / 'results.json'}` cannot be read as the results of a run: {error}.") from None
    except (KeyError, jinja2.UndefinedError) as error:
        raise BadInputError(
            f"`{folder / 'results.json'}` lacks what the card shows: {error}. `tailmoe train` writes all of it."
        ) from None
    card.save(folder / "README.md")
    return folder / "README.md"


def _study_of(path: Path, results: dict) -> dict | None:
    """The study beside a run's results, if there is one."""
    if not path.exists():
        return None
    study = json.loads(path.read_text(encoding="utf-8"))
    if study["recipe"] != results["recipe"]:
        raise BadInputError(f"`{path}` is a study of another recipe than that of the run beside it: remove it.")
    return study


def _kind_of(results: dict) -> str:
    """What the network and its objective amount to, as its family tells; `"other"` for none of our models."""
    family = FAMILIES.get(results["model_type"])
    return "other" if family is None else family.kind(results["config"], results["recipe"]["objective"])


def _objective_class(family: ModelFamily | None, kind: str) -> str | None:
    """The class that fine-tunes the model as its paper does; None where the model's own loss does."""
    if family is None or kind not in family.paper_kinds:
        return None
    return next((objective.__name__ for objective in family.objectives.values()), None)


def _title(results: dict, repo_id: str | None) -> str:
    return markdown.one_line(results["name"]) if repo_id is None else repo_id.rpartition("/")[2]


def _card_data(results: dict, repo_id: str | None) -> ModelCardData:
    name, kind, metrics = markdown.one_line(results["dataset"]["name"]), _kind_of(results), results["metrics"]
    tags = ["tailmoe", "vision", "long-tailed", "class-imbalance", results["model_type"]]
    if (family := FAMILIES.get(results["model_type"])) is not None:
        tags += ["baseline" if kind == "cross_entropy" else "mixture-of-experts", *family.paper_tags]
    on_hub = hub_id(name)
    return ModelCardData(
        license=results.get("license", LICENSE),
        base_model=results.get("base_model"),
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=list(dict.fromkeys([*tags, *results.get("tags", [])])),
        datasets=None if on_hub is None else [on_hub],
        metrics=["accuracy"],
        model_name=_title(results, repo_id),
        eval_results=None
        if metrics is None
        else [
            EvalResult(
                task_type="image-classification",
                task_name="Image classification",
                dataset_type=on_hub or name,
                dataset_name=f"{name}, imbalance factor {results['dataset']['imbalance_factor']:.4g}",
                dataset_split="test" if _is_on_test(results) else "validation",
                metric_type=metric,
                metric_name=metric.replace("_", " "),
                metric_value=value,
            )
            for metric, value in metrics.items()
            if isinstance(value, float)
        ],
    )


def _is_on_test(results: dict) -> bool:
    return results["description"] is not None and not results["recipe"]["data"].get("validation_per_class")


def _result_rows(results: dict) -> list[dict[str, str]]:
    runs = [results] if results["baseline"] is None else [results["baseline"], results]
    rows = []
    for run, row in zip(runs, table_rows(results), strict=True):
        experts = run["metrics"].get("expert_accuracy") or []
        row["model"] = markdown.plain(row["model"])
        row["each expert"] = " / ".join(map(percent, experts)) if len(experts) > 1 else NOT_MEASURED
        row["ECE"] = percent(run["metrics"]["ece"])
        row["seed"] = str(run["seed"])
        rows.append(row)
    return rows


def _study_rows(study: dict) -> list[dict[str, str]]:
    return [row | {"model": markdown.plain(row["model"])} for row in table_rows(study)]


def _expert_rows(results: dict) -> list[dict[str, str]]:
    runs = [run for run in (results["baseline"], results) if EXPERT_METRICS[0] in ((run or {}).get("metrics") or {})]
    return [
        {
            "model": markdown.plain(run["title"]),
            **{name.replace("_", " "): f"{run['metrics'][name]:.3f}" for name in EXPERT_METRICS},
        }
        for run in runs
    ]


def _group_rows(class_counts: Sequence[int], bounds: ShotBounds) -> list[dict[str, str]]:
    return [
        {
            "classes with": bounds.ranges[group],
            "classes": str(len(members)),
            "training images": f"{sum(class_counts[c] for c in members):,}",
        }
        for group, members in shot_groups(class_counts, bounds).items()
    ]


def _class_table(dataset: dict, per_class: dict[int, float | None]) -> str | None:
    counts = dataset["class_counts"]
    if len(counts) > LISTED_CLASSES:
        return None
    return format_table(
        [
            {"class": markdown.plain(name), "training images": f"{n:,}", "accuracy": percent(per_class.get(c))}
            for c, (name, n) in enumerate(zip(dataset["label_names"], counts, strict=True))
        ],
        markdown=True,
    )
