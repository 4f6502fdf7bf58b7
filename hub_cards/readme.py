"""The tables of the README and of the results' own page, rendered from the results.

    python -m tailmoe.hub_cards.readme README.md hub_cards/results

writes what stands between `<!-- models -->` and `<!-- /models -->`, and likewise `results`, `papers`, `pairs` and `benchmark`;
in `hub_cards/results/README.md`, `ablations`.
"""

import argparse
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

SECTIONS = {
    "models": models_table,
    "results": readme_table,
    "papers": papers_table,
    "pairs": readme_pairs,
    "benchmark": readme_benchmarks,
}
SECTIONS_OF_RESULTS = {"ablations": readme_ablations}


def update_readme(
    readme_path: str | Path, results_dir: str | Path, sections: dict[str, Callable[[Path], str]] = SECTIONS
) -> None:
    """Replace what stands between the markers of a page by the tables of all models, studies and benchmarks.

    Args:
        readme_path: The page.
        results_dir: Folder of the results.
        sections: What makes the tables, by the names of the markers.

    Raises:
        BadInputError: If the markers are not there, each once and in order; see also `readme_table`.
    """
    path = Path(readme_path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"`{readme_path}` cannot be read: {error.strerror}.") from None
    for name, table in sections.items():
        first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, start, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if not (start and end) or text.count(first) + text.count(last) > 2:
            raise BadInputError(
                f"`{readme_path}` must have the lines `{first}` and `{last}`, each once, in this order."
            )
        text = f"{before}{first}\n{table(Path(results_dir))}\n{last}{after}"
    path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Update a README and the page of the results; a wrong argument ends the process with one line."""
    parser = argparse.ArgumentParser(description="Render the tables of all studies and benchmarks into a README.")
    parser.add_argument("readme", help="Markdown file with the markers")
    parser.add_argument("results", help="folder of the studies' results, JSON files")
    given = parser.parse_args(arguments)
    try:
        update_readme(given.readme, given.results)
        update_readme(Path(given.results) / "README.md", given.results, SECTIONS_OF_RESULTS)
    except BadInputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
