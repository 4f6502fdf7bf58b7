"""The README's tables, rendered from the results.

    python -m tailmoe.hub_cards.readme README.md hub_cards/results

writes what stands between `<!-- results -->` and `<!-- /results -->`, and likewise `papers`, `pairs` and `benchmark`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tailmoe.hub_cards.benchmark_table import readme_benchmarks
from tailmoe.hub_cards.pairs_table import readme_pairs
from tailmoe.hub_cards.papers_table import papers_table
from tailmoe.hub_cards.results_table import readme_table
from tailmoe.training.errors import BadInputError

SECTIONS = {
    "results": readme_table,
    "papers": papers_table,
    "pairs": readme_pairs,
    "benchmark": readme_benchmarks,
}


def update_readme(readme_path: str | Path, results_dir: str | Path) -> None:
    """Replace what stands between the markers of the README by the tables of all studies and benchmarks.

    Raises:
        BadInputError: If the markers are not there, each once and in order; see also `readme_table`.
    """
    path = Path(readme_path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"`{readme_path}` cannot be read: {error.strerror}.") from None
    for name, table in SECTIONS.items():
        first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, start, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if not (start and end) or text.count(first) + text.count(last) > 2:
            raise BadInputError(
                f"`{readme_path}` must have the lines `{first}` and `{last}`, each once, in this order."
            )
        text = f"{before}{first}\n{table(results_dir)}\n{last}{after}"
    path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Update a README; a wrong argument ends the process with one line."""
    parser = argparse.ArgumentParser(description="Render the tables of all studies and benchmarks into a README.")
    parser.add_argument("readme", help="Markdown file with the markers")
    parser.add_argument("results", help="folder of the studies' results, JSON files")
    given = parser.parse_args(arguments)
    try:
        update_readme(given.readme, given.results)
    except BadInputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
