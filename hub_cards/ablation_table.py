"""The tables of ablations."""

from pathlib import Path

from tailmoe.hub_cards.results_table import format_table, seeds_named
from tailmoe.training.results.ablation import Ablation, ArmResults
from tailmoe.training.results.scores import NOT_MEASURED, percent


def ablation_table(ablation: Ablation, markdown: bool = False) -> str:
    """Each change with its accuracies, and how many points of accuracy it is above the recipe as it is.

    Where the recipe has a baseline: the baseline's accuracy with the same change, and the recipe's gain over it.

    Args:
        ablation: What `run_ablation` returns.
        markdown: Markdown instead of plain text.
    """
    first = ablation.changes[0]
    rows = []
    for change in ablation.changes:
        row = {
            "change": change.name if change.group is None else f"{change.group}: {change.name}",
            **{title: percent(accuracy) for title, accuracy in change.study.accuracies.items()},
            "difference": NOT_MEASURED if change is first else _points(change.study, first.study),
        }
        if (baseline := change.baseline) is not None:
            row |= {
                baseline.title: percent(baseline.accuracies["overall"]),
                "gain": _points(change.study, baseline),
            }
        rows.append(row)
    note = (
        f"Accuracy in % on {ablation.dataset.num_test:,} validation images of {ablation.dataset.name}, recipe "
        f"{ablation.recipe}, {seeds_named(ablation.seeds)}. Difference: points of overall accuracy above the recipe as it is"
        f"{'; gain: above the baseline with the same change' if first.baseline is not None else ''}."
    )
    return f"{format_table(rows, markdown)}\n\n{note}"


def readme_ablations(results_dir: Path) -> str:
    """The Markdown tables of all ablations in `ablations/` of the results, each with the figure beside its file.

    Raises:
        BadInputError: If a file is not an ablation.
    """
    parts = []
    for path in sorted((results_dir / "ablations").glob("*.json")):
        record = Ablation.load(path)
        parts += [f"### {path.stem}", f"`{record.command}`", ablation_table(record, markdown=True)]
        figure = path.with_suffix(".png")
        if figure.is_file():
            parts.append(f"![accuracy of each change](ablations/{figure.name})")
    return "\n\n".join(parts) if parts else "No ablation has been measured yet."


def _points(arm: ArmResults, of: ArmResults) -> str:
    return f"{100 * (arm.metrics['accuracy'].mean - of.metrics['accuracy'].mean):+.2f}"
