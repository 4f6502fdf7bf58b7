"""The table of the models in `hub_cards/models`, which anyone can load."""

from pathlib import Path

from tailmoe.hub_cards.results_table import format_table, table_rows
from tailmoe.training.results import RESULTS_NAME, RunResults

SHOWN = ("parameters", "overall", "many", "medium", "few")
CAPTION = (
    "Top-1 accuracy of these very weights in % on the data's test images, overall and of many-, medium- and few-shot "
    "classes; always those of seed 0, not of the best."
)
NO_MODEL = "No model has been published yet."


def models_table(results_dir: str | Path) -> str:
    """The Markdown table of the folders in `models`, which lies beside the results.

    Raises:
        BadInputError: If a folder holds no results of a run.
    """
    rows = [_row(folder) for folder in sorted(Path(results_dir).parent.glob("models/*"))]
    return f"{format_table(rows, markdown=True)}\n\n{CAPTION}" if rows else NO_MODEL


def _row(folder: Path) -> dict[str, str]:
    results = RunResults.load(folder / RESULTS_NAME)
    row = table_rows(results)[-1]
    return {
        "model": f"[{folder.name}](hub_cards/models/{folder.name})",
        "method": row["model"],
        **results.setting,
        **{title: row[title] for title in SHOWN},
    }
