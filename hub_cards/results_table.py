"""Tables of results: of a run or study for the terminal, and of all studies for the README.

    python -m tailmoe.hub_cards.results_table README.md hub_cards/results

writes the README's table between the lines `<!-- results -->` and `<!-- /results -->`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tailmoe.training.errors import BadInputError

NOT_MEASURED = "—"
START, END = "<!-- results -->", "<!-- /results -->"
ACCURACIES = {
    "overall": "accuracy",
    "balanced": "balanced_accuracy",
    "many": "many_accuracy",
    "medium": "medium_accuracy",
    "few": "few_accuracy",
}
CAPTION = (
    "Top-1 accuracy in % after the last epoch, mean ± standard deviation over seeds. Many, medium and few: mean over "
    "the classes with more than 100, with 20 to 100 and with fewer than 20 training images. Width: channels of each "
    "stage. Seconds: mean training time of a run."
)
NO_STUDY = "No study has been measured yet."


def format_table(rows: Sequence[dict[str, str]], markdown: bool = False) -> str:
    """Lay out rows, whose keys are the column titles, as plain text or Markdown: first column left, others right."""
    titles = list(rows[0])
    lines = [titles, *([row[title] for title in titles] for row in rows)]
    if markdown:
        lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
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
    several = len(seeds) > 1
    return (
        f"{format_table(table_rows(results))}\n\n"
        f"Accuracy in % on {dataset['num_test']:,} test images of {dataset['name']}"
        f"{', mean ± standard deviation' if several else ''}; {'seeds' if several else 'seed'} {', '.join(map(str, seeds))}."
    )


def table_rows(results: dict) -> list[dict[str, str]]:
    """The baseline's row, if any, and the model's; accuracies in %, a dash for what was not measured."""
    seconds, _ = _mean_and_std(results["train_seconds"])
    row = {
        "model": results["title"],
        "width": "-".join(map(str, results["config"]["hidden_sizes"])),
        "parameters": f"{results['num_parameters']:,}",
        **{title: percent(results["metrics"].get(name)) for title, name in ACCURACIES.items()},
        "seconds": NOT_MEASURED if seconds is None else f"{seconds:,.0f}",
    }
    return [row] if results["baseline"] is None else [*table_rows(results["baseline"]), row]


def percent(value: float | dict | None) -> str:
    """A share, or the `mean` and `std` of a study's, in % without the sign."""
    mean, std = _mean_and_std(value)
    if mean is None:
        return NOT_MEASURED
    return f"{100 * mean:.1f}" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f}"


def readme_table(results_dir: str | Path) -> str:
    """The Markdown table of all studies, one results file each, in the order of the files' names.

    Raises:
        BadInputError: If there is no such folder, or a file in it is not a study.
    """
    folder = Path(results_dir)
    if not folder.is_dir():
        raise BadInputError(f"There is no folder `{results_dir}` of results.")
    rows = [row for path in sorted(folder.glob("*.json")) for row in _study_rows(path)]
    return f"{format_table(rows, markdown=True)}\n\n{CAPTION}" if rows else NO_STUDY


def update_readme(readme_path: str | Path, results_dir: str | Path) -> None:
    """Replace what stands between the markers of the README with the table of all studies.

    Raises:
        BadInputError: If the markers are not there, each once and in order, or see `readme_table`.
    """
    path = Path(readme_path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"`{readme_path}` cannot be read: {error.strerror}.") from None
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end) or text.count(START) + text.count(END) > 2:
        raise BadInputError(f"`{readme_path}` must have the lines `{START}` and `{END}`, each once, in this order.")
    path.write_text(f"{before}{START}\n{readme_table(results_dir)}\n{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Update a README; a wrong argument ends the process with one line."""
    parser = argparse.ArgumentParser(description="Render the table of all studies into a README.")
    parser.add_argument("readme", help="Markdown file with the markers")
    parser.add_argument("results", help="folder of the studies' results, JSON files")
    given = parser.parse_args(arguments)
    try:
        update_readme(given.readme, given.results)
    except BadInputError as error:
        parser.error(str(error))


def _mean_and_std(value: float | dict | None) -> tuple[float | None, float | None]:
    return (value["mean"], value["std"]) if isinstance(value, dict) else (value, None)


def _study_rows(path: Path) -> list[dict[str, str]]:
    try:
        study = json.loads(path.read_text(encoding="utf-8"))
        place = {
            "recipe": study["name"],
            "data": study["dataset"]["name"],
            "imbalance": f"{study['dataset']['imbalance_factor']:.4g}",
            "seeds": str(len(study["seeds"])),
        }
        return [{"model": row["model"], **place, **row} for row in table_rows(study)]
    except (OSError, ValueError, TypeError) as error:
        raise BadInputError(f"`{path}` cannot be read as JSON of a study: {error}.") from None
    except KeyError as error:
        raise BadInputError(f"`{path}` is not a study, it lacks {error}: write it with `tailmoe study`.") from None


if __name__ == "__main__":
    main(sys.argv[1:])
