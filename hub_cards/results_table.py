"""Tables of results: of a run or study for the terminal, and of all studies for the README."""

import json
from collections.abc import Sequence
from pathlib import Path

from tailmoe.training.errors import BadInputError
from tailmoe.training.recipe_files import grid_names
from tailmoe.training.shot_groups import ShotBounds

NOT_MEASURED = "—"
LISTED_CLASSES = 100  # a table of more is no reading
ACCURACIES = {
    "overall": "accuracy",
    "balanced": "balanced_accuracy",
    "many": "many_accuracy",
    "medium": "medium_accuracy",
    "few": "few_accuracy",
}
CAPTION = (
    "Top-1 accuracy in % after the last epoch, mean ± standard deviation over seeds. Many, medium and few: mean over "
    f"the classes {ShotBounds().caption}{{others}}. Width: channels of each "
    "stage. Seconds: mean training time of a run."
)
DEFAULT_EPOCHS = 200  # of `LongTailTrainingArguments`
NO_STUDY = "No study has been measured yet."


def format_table(rows: Sequence[dict[str, str]], markdown: bool = False) -> str:
    """Lay out rows, whose keys are the column titles, as plain text or Markdown: first column left, others right."""
    titles = list(rows[0])
    lines = [titles, *([row[title] for title in titles] for row in rows)]
    if markdown:
        lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    least = 2 if markdown else 1  # a rule is a dash and a colon at least
    widths = [max(least, *(len(line[column]) for line in lines)) for column in range(len(titles))]
    padded = [
        [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    if markdown:
        rule = [f"{'-' * (width - 1)}:" if column else "-" * width for column, width in enumerate(widths)]
        return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))
    rule = ["-" * width for width in widths]
    return "\n".join("  ".join(line).rstrip() for line in (padded[0], rule, *padded[1:]))


def results_table(results: dict) -> str:
    """A run or a study, and its baseline above it, as plain text.

    Args:
        results: Content of a run's `results.json`, or what `tailmoe.training.study.summarise` returns.
    """
    dataset = results["dataset"]
    seeds = results["seeds"] if "seeds" in results else [results["seed"]]
    bounds = ShotBounds.of_results(dataset)
    groups = "" if bounds == ShotBounds() else f"\nMany, medium and few: classes {bounds.caption}."
    return (
        f"{format_table(table_rows(results))}\n\n"
        f"Accuracy in % on {dataset['num_test']:,} {measured_images(results)} of {dataset['name']}"
        f"{', mean ± standard deviation' if len(seeds) > 1 else ''}; {seeds_named(seeds)}.{groups}"
    )


def studies_table(studies: Sequence[dict]) -> str:
    """Several studies, a row each and one for each baseline, as plain text; a baseline that is one of them has no second row."""
    mains = {json.dumps([study["title"], setting(study)]) for study in studies}
    rows = []
    for study in studies:
        place = {"recipe": study["name"], **setting(study), "seeds": str(len(study["seeds"]))}
        for row in table_rows(study):
            if row["model"] == study["title"] or json.dumps([row["model"], setting(study)]) not in mains:
                rows.append({"model": row["model"], **place, **row})
    return f"{format_table(rows)}\n\nAccuracy in %, mean ± standard deviation over seeds."


def seeds_named(seeds: Sequence[int]) -> str:
    """`seed 0`, or `seeds 0, 1`."""
    return f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"


def measured_images(results: dict) -> str:
    """What to call the images that a run's or study's metrics are of; without a recipe nobody knows what they are for."""
    if results["recipe"]["data"].get("validation_per_class"):
        return "validation images"
    return "evaluation images" if results["description"] is None else "test images"


def setting(results: dict) -> dict[str, str]:
    """What a run or study was trained on, and for how long."""
    return {
        "data": results["dataset"]["name"],
        "imbalance": f"{results['dataset']['imbalance_factor']:.4g}",
        "epochs": f"{results['recipe']['training'].get('num_train_epochs', DEFAULT_EPOCHS):g}",
    }


def table_rows(results: dict) -> list[dict[str, str]]:
    """The baseline's row, if any, and the model's; accuracies in %, a dash for what was not measured."""
    seconds, _ = _mean_and_std(results["train_seconds"])
    row = {
        "model": results["title"],
        "width": _width(results["config"]),
        "parameters": f"{results['num_parameters']:,}",
        **{title: percent(results["metrics"].get(name)) for title, name in ACCURACIES.items()},
        "seconds": NOT_MEASURED if seconds is None else f"{seconds:,.0f}",
    }
    return [row] if results["baseline"] is None else [*table_rows(results["baseline"]), row]


def _width(config: dict) -> str:
    if config.get("backbone_config") is not None:
        return config["backbone"] or config["backbone_config"]["model_type"]
    return "-".join(map(str, config.get("hidden_sizes", []))) or NOT_MEASURED


def percent(value: float | dict | None) -> str:
    """A share, or the `mean` and `std` of a study's, in % without the sign."""
    mean, std = _mean_and_std(value)
    if mean is None:
        return NOT_MEASURED
    return f"{100 * mean:.1f}" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f}"


def readme_table(results_dir: str | Path) -> str:
    """The Markdown table of all studies, one results file each, in the order of the files' names.

    The grid of SNNL-MoE has a table of its own, see `pairs_table`.

    Raises:
        BadInputError: If there is no such folder, or a file in it is not a study.
    """
    folder = Path(results_dir)
    if not folder.is_dir():
        raise BadInputError(f"There is no folder `{results_dir}` of results.")
    elsewhere = set(grid_names("snnl"))
    studies = [_study_rows(path) for path in sorted(folder.glob("*.json")) if path.stem not in elsewhere]
    rows = [row for of_study, _ in studies for row in of_study]
    bounds = {of_study[0]["recipe"]: each for of_study, each in studies if each != ShotBounds()}
    others = "".join(f" ({name}: {each.caption})" for name, each in bounds.items())
    return f"{format_table(rows, markdown=True)}\n\n{CAPTION.format(others=others)}" if rows else NO_STUDY


def _mean_and_std(value: float | dict | None) -> tuple[float | None, float | None]:
    return (value["mean"], value["std"]) if isinstance(value, dict) else (value, None)


def _study_rows(path: Path) -> tuple[list[dict[str, str]], ShotBounds]:
    try:
        study = json.loads(path.read_text(encoding="utf-8"))
        place = {"recipe": study["name"], **setting(study), "seeds": str(len(study["seeds"]))}
        rows = [{"model": row["model"], **place, **row} for row in table_rows(study)]
        return rows, ShotBounds.of_results(study["dataset"])
    except (OSError, ValueError, TypeError) as error:
        raise BadInputError(f"`{path}` cannot be read as JSON of a study: {error}.") from None
    except KeyError as error:
        raise BadInputError(f"`{path}` is not a study, it lacks {error}: write it with `tailmoe study`.") from None
