"""The table of the models in `hub_cards/models`, which anyone can load."""

import json
from pathlib import Path

from tailmoe.hub_cards.results_table import format_table, setting, table_rows
from tailmoe.training.errors import BadInputError

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
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        place, row = setting(results), table_rows(results)[-1]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInputError(f"`{folder}` holds no results of a run: {error}. `tailmoe train` writes them.") from None
    return {
        "model": f"[{folder.name}](hub_cards/models/{folder.name})",
        "method": row["model"],
        **{title: place[title] for title in ("data", "imbalance", "epochs")},
        **{title: row[title] for title in SHOWN},
    }
