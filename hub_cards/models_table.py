"""The table of the models in `hub_cards/models`, which anyone can load."""

from pathlib import Path

from tailmoe.hub_cards.results_table import format_table, table_rows
from tailmoe.training.results.results import RESULTS_NAME, RunResults

SHOWN = ("parameters", "overall", "many", "medium", "few")
CAPTION = (
    "Top-1 accuracy of these very weights in % on the data's test images, overall and of many-, medium- and few-shot "
    "classes; always those of seed 0, not of the best."
)
NO_MODEL = "No model has been published yet."


def models_table(results_dir: str | Path, links: str = "models", long_tailed: bool = False) -> str:
    """The Markdown table of the folders in `models`, which lies beside the results.

    Args:
        results_dir: Folder of the results.
        links: Where the folders lie, as seen from the page.
        long_tailed: Only those trained on long-tailed data.

    Raises:
        BadInputError: If a folder holds no results of a run.
    """
    folders = sorted(Path(results_dir).parent.glob("models/*"))
    runs = {folder.name: RunResults.load(folder / RESULTS_NAME) for folder in folders}
    shown = {name: run for name, run in runs.items() if not long_tailed or run.dataset.imbalance_factor > 1}
    rows = [{"model": f"[{name}]({links}/{name})", **_row(run)} for name, run in shown.items()]
    return f"{format_table(rows, markdown=True)}\n\n{CAPTION}" if rows else NO_MODEL


def _row(results: RunResults) -> dict[str, str]:
    row = table_rows(results)[-1]
    return {
        "method": row["model"],
        **results.setting,
        **{title: row[title] for title in SHOWN},
    }
