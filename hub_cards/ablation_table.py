"""The tables of ablations."""

import json
from pathlib import Path

from tailmoe.hub_cards.results_table import ACCURACIES, NOT_MEASURED, format_table, percent, seeds_named
from tailmoe.training.errors import BadInputError


def ablation_table(ablation: dict, markdown: bool = False) -> str:
    """Each change with its accuracies, and how many points of accuracy it is above the recipe as it is.

    Where the recipe has a baseline: the baseline's accuracy with the same change, and the recipe's gain over it.

    Args:
        ablation: What `tailmoe.training.ablation.run_ablation` returns.
        markdown: Markdown instead of plain text.
    """
    first = ablation["changes"][0]
    rows = []
    for change in ablation["changes"]:
        metrics = change["study"]["metrics"]
        row = {
            "change": change["name"] if change["group"] is None else f"{change['group']}: {change['name']}",
            **{title: percent(metrics.get(name)) for title, name in ACCURACIES.items()},
            "difference": NOT_MEASURED if change is first else _points(metrics, first["study"]["metrics"]),
        }
        if change["baseline"] is not None:
            baseline = change["baseline"]["metrics"]
            row |= {change["baseline"]["title"]: percent(baseline["accuracy"]), "gain": _points(metrics, baseline)}
        rows.append(row)
    dataset = ablation["dataset"]
    note = (
        f"Accuracy in % on {dataset['num_test']:,} validation images of {dataset['name']}, recipe {ablation['recipe']}, "
        f"{seeds_named(ablation['seeds'])}. Difference: points of overall accuracy above the recipe as it is"
        f"{'; gain: above the baseline with the same change' if first['baseline'] is not None else ''}."
    )
    return f"{format_table(rows, markdown)}\n\n{note}"


def readme_ablations(results_dir: Path) -> str:
    """The Markdown tables of all ablations in `ablations/` of the results, each with the figure beside its file.

    Raises:
        BadInputError: If a file is not an ablation.
    """
    parts = []
    for path in sorted((results_dir / "ablations").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            parts += [f"### {path.stem}", f"`{record['command']}`", ablation_table(record, markdown=True)]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadInputError(f"`{path}` is not an ablation: {error}. Write it with `tailmoe ablation`.") from None
        figure = path.with_suffix(".png")
        if figure.is_file():
            parts.append(f"![accuracy of each change](ablations/{figure.name})")
    return "\n\n".join(parts) if parts else "No ablation has been measured yet."


def _points(metrics: dict, of: dict) -> str:
    return f"{100 * (metrics['accuracy']['mean'] - of['accuracy']['mean']):+.2f}"
