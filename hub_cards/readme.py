"""The tables of the project's pages, rendered from the files in `hub_cards`.

    python -m tailmoe.hub_cards.readme .

writes what stands between `<!-- models -->` and `<!-- /models -->` of a page, and likewise its other sections.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tailmoe.hub_cards.ablation_table import readme_ablations
from tailmoe.hub_cards.benchmark_table import readme_benchmarks
from tailmoe.hub_cards.models_table import models_table
from tailmoe.hub_cards.pairs_table import readme_pairs
from tailmoe.hub_cards.papers_table import papers_table
from tailmoe.hub_cards.results_table import readme_table
from tailmoe.training.errors import BadInputError

RESULTS = Path("hub_cards", "results")
# by page, and by the name of the markers, what makes a table of the folder of results
PAGES: dict[str, dict[str, Callable[[Path], str]]] = {
    "README.md": {"models": functools.partial(models_table, links="hub_cards/models", long_tailed=True)},
    "hub_cards/README.md": {"models": models_table},
    "hub_cards/results/README.md": {
        "papers": papers_table,
        "results": readme_table,
        "pairs": readme_pairs,
        "ablations": readme_ablations,
    },
    "training/benchmark/README.md": {"benchmark": readme_benchmarks},
}


def update_pages(root: str | Path) -> None:
    """Replace what stands between the markers of all pages, or leave all as they are.

    Args:
        root: Folder of the project.

    Raises:
        BadInputError: As `rendered`.
    """
    texts = {page: rendered(root, page) for page in PAGES}
    for page, text in texts.items():
        Path(root, page).write_text(text, encoding="utf-8")


def rendered(root: str | Path, page: str) -> str:
    """The text of a page with its tables as the results now are.

    Args:
        root: Folder of the project.
        page: One of `PAGES`.

    Raises:
        BadInputError: If it or its markers are not there, each once and in order, or a file holds no results.
    """
    try:
        text = Path(root, page).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"`{page}` cannot be read: {error.strerror}.") from None
    for name, table in PAGES[page].items():
        first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, start, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if not (start and end) or text.count(first) + text.count(last) > 2:
            raise BadInputError(f"`{page}` must have the lines `{first}` and `{last}`, each once, in this order.")
        text = f"{before}{first}\n{table(Path(root, RESULTS))}\n{last}{after}"
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Update the pages; a wrong argument ends the process with one line."""
    parser = argparse.ArgumentParser(description="Render the tables of the project's pages.")
    parser.add_argument("root", help="folder of the project")
    given = parser.parse_args(arguments)
    try:
        update_pages(given.root)
    except BadInputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
