"""The table of an ablation."""

from tailmoe.hub_cards.results_table import ACCURACIES, NOT_MEASURED, format_table, percent


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
        f"seeds {', '.join(map(str, ablation['seeds']))}. Difference: points of overall accuracy above the recipe as it is"
        f"{'; gain: above the baseline with the same change' if first['baseline'] is not None else ''}."
    )
    return f"{format_table(rows, markdown)}\n\n{note}"


def _points(metrics: dict, of: dict) -> str:
    return f"{100 * (metrics['accuracy']['mean'] - of['accuracy']['mean']):+.2f}"
