"""Tables of results: of a run or study for the terminal, and of all studies for the README."""

import json
from collections.abc import Sequence
from pathlib import Path

from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.errors import BadInputError
from tailmoe.training.recipes.shipped import grid_names
from tailmoe.training.results.results import RunResults, StudyResults
from tailmoe.training.results.scores import NOT_MEASURED, Spread, percent

LISTED_CLASSES = 100  # a table of more is no reading
CAPTION = (
    "Top-1 accuracy in % after the last epoch, mean ± standard deviation over seeds. Many, medium and few: mean over "
    f"the classes {ShotBounds().caption}{{others}}. Width: channels of each "
    "stage. Seconds: mean training time of a run."
)
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


def results_table(results: RunResults | StudyResults) -> str:
    """A run or a study, and its baseline above it, as plain text."""
    dataset, seeds, bounds = results.dataset, results.seeds, results.dataset.shot_bounds
    groups = "" if bounds == ShotBounds() else f"\nMany, medium and few: classes {bounds.caption}."
    return (
        f"{format_table(without_repeats(table_rows(results)))}\n\n"
        f"Accuracy in % on {dataset.num_test:,} {results.measured_images} of {dataset.name}"
        f"{', mean ± standard deviation' if len(seeds) > 1 else ''}; {seeds_named(seeds)}.{groups}"
    )


def studies_table(studies: Sequence[StudyResults]) -> str:
    """Several studies, a row each and one for each baseline, as plain text; a baseline that is one of them has no second row."""
    mains = {json.dumps([study.title, study.setting]) for study in studies}
    rows = []
    for study in studies:
        for row in _study_rows(study):
            if row["model"] == study.title or json.dumps([row["model"], study.setting]) not in mains:
                rows.append(row)
    return f"{format_table(without_repeats(rows))}\n\nAccuracy in %, mean ± standard deviation over seeds."


def seeds_named(seeds: Sequence[int]) -> str:
    """`seed 0`, or `seeds 0, 1`."""
    return f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"


def table_rows(results: RunResults | StudyResults) -> list[dict[str, str]]:
    """The baseline's row, if any, and the model's; accuracies in %, a dash for what was not measured."""
    seconds = results.train_seconds.mean if isinstance(results.train_seconds, Spread) else results.train_seconds
    row = {
        "model": results.title,
        "width": _width(results.config),
        "parameters": f"{results.num_parameters:,}",
        **{title: percent(accuracy) for title, accuracy in results.accuracies.items()},
        "seconds": NOT_MEASURED if seconds is None else f"{seconds:,.0f}",
    }
    return [row] if results.baseline is None else [*table_rows(results.baseline), row]


def without_repeats(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The rows without balanced accuracy where it is overall accuracy in each, as on balanced test images."""
    repeats = all(row["balanced"] == row["overall"] for row in rows)
    return [{title: cell for title, cell in row.items() if not (repeats and title == "balanced")} for row in rows]


def _width(config: dict) -> str:
    if config.get("backbone_config") is not None:
        return config["backbone"] or config["backbone_config"]["model_type"]
    return "-".join(map(str, config.get("hidden_sizes", []))) or NOT_MEASURED


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
    studies = [StudyResults.load(path) for path in sorted(folder.glob("*.json")) if path.stem not in elsewhere]
    rows = [row for study in studies for row in _study_rows(study)]
    bounds = {study.name: study.dataset.shot_bounds for study in studies}
    others = "".join(f" ({name}: {each.caption})" for name, each in bounds.items() if each != ShotBounds())
    if not rows:
        return NO_STUDY
    return f"{format_table(without_repeats(rows), markdown=True)}\n\n{CAPTION.format(others=others)}"


def _study_rows(study: StudyResults) -> list[dict[str, str]]:
    place = {"recipe": study.name, **study.setting, "seeds": str(len(study.seeds))}
    return [{"model": row["model"], **place, **row} for row in table_rows(study)]
