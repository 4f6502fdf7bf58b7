"""The table of an ablation."""

from tailmoe.hub_cards.results_table import ACCURACIES, NOT_MEASURED, format_table, percent


def ablation_table(ablation: dict, markdown: bool = False) -> str:
    """Each change with its accuracies, and how many points of accuracy it is above the recipe as it is.

    Args:
        ablation: What `tailmoe.training.ablation.run_ablation` returns.
        markdown: Markdown instead of plain text.
    """
    plain = ablation["changes"][0]["study"]["metrics"]["accuracy"]["mean"]
    rows = []
    for change in ablation["changes"]:
        metrics = change["study"]["metrics"]
        difference = 100 * (metrics["accuracy"]["mean"] - plain)
        rows.append(
            {
                "change": change["name"] if change["group"] is None else f"{change['group']}: {change['name']}",
                **{title: percent(metrics.get(name)) for title, name in ACCURACIES.items()},
                "difference": f"{difference:+.2f}" if change["group"] is not None else NOT_MEASURED,
            }
        )
    first = ablation["changes"][0]["study"]
    note = (
        f"Accuracy in % on {first['dataset']['num_test']:,} validation images of {first['dataset']['name']}, recipe "
        f"{ablation['recipe']}, seeds {', '.join(map(str, ablation['seeds']))}. Difference: points of overall accuracy."
    )
    return f"{format_table(rows, markdown)}\n\n{note}"
