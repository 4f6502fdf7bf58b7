"""Tables of the benchmark: for the terminal and for the README."""

from pathlib import Path

from tailmoe.hub_cards.results_table import format_table
from tailmoe.training.benchmark.record import Benchmark
from tailmoe.training.scores import NOT_MEASURED

CAPTION = (
    "Median rates. Ratio: ours by the obvious way's (images one by one in a DataLoader with a process for each core, NCHW, "
    "Python loops over experts, samples, classes and pairs; for `trainer`: the same step in a loop without a Trainer; for "
    "`backbones`: the plain backbone with one linear classifier), measured in turn; median and quartiles over the rounds. "
    "Of limit: share of a large float32 matrix product's rate, for `data` of a large copy's."
)
NO_BENCHMARK = "No benchmark has been measured yet."


def benchmark_table(record: Benchmark, markdown: bool = False) -> str:
    """The figures of a benchmark and the machine they were measured on.

    Args:
        record: Of the benchmark.
        markdown: For the README instead of the terminal.
    """
    hardware, versions = record.hardware, record.versions
    limits = ", ".join(f"{name} {limit['median']:,.0f} {limit['unit']}" for name, limit in record.limits.items())
    machine = hardware["accelerator"] if record.device == "cuda" else f"{hardware['cpu']}, {hardware['cores']} cores"
    commit, _, changed = str(record.commit).partition("-")
    commit = f"{commit[:12]}{' with changes' if changed else ''}"
    place = f"{machine}; torch {versions['torch']}; {limits}; {record.date}, commit {commit}."
    rows = [_row(figure) for figure in record.figures]
    tables = [format_table(each, markdown) for each in (rows, _memory_rows(record.memory)) if each]
    return "\n\n".join([*tables, place])


def readme_benchmarks(results_dir: str | Path) -> str:
    """The Markdown tables of all benchmarks in `benchmarks/` of the results, one JSON file each.

    Raises:
        BadInputError: If a file is not a benchmark.
    """
    paths = sorted((Path(results_dir) / "benchmarks").glob("*.json"))
    tables = [benchmark_table(Benchmark.load(path), markdown=True) for path in paths]
    return "\n\n".join([*tables, CAPTION]) if tables else NO_BENCHMARK


def _memory_rows(memory: dict | None) -> list[dict[str, str]]:
    if memory is None:
        return []
    return [
        {
            "training from": run["layout"],
            "classes": f"{run['classes']:,}",
            "images": f"{run['images']:,}",
            "peak memory": f"{run['peak_memory_gb']:.2f} GB",
            "of a decoder": f"{run['worker_memory_gb']:.2f} GB",
            "bytes an image": f"{memory['bytes_per_image'][run['layout']] or 0:,.0f}",
            "images/s": f"{run['images_per_second']:,.0f}",
        }
        for run in memory["runs"]
    ]


def _row(figure: dict) -> dict[str, str]:
    details, ratio, target = figure["details"], figure["ratio"], figure["target"]
    share, wanted_share = details.get("share_of_limit"), details.get("target_share")
    wanted = NOT_MEASURED if target is None else f"{target:g}x"
    return {
        "part": f"{figure['case']}: {figure['name']}",
        "unit": figure["unit"],
        "tailmoe": _rate(figure["rate"]),
        "obvious way": _rate(figure["reference"]),
        "ratio": NOT_MEASURED if ratio is None else f"{ratio['median']:.2f} ({_quartiles(ratio)})",
        "of limit": NOT_MEASURED if share is None else f"{100 * share:.0f} %",
        "wanted": wanted if wanted_share is None else f"{100 * wanted_share:.0f} %",
    }


def _rate(spread: dict | None) -> str:
    if spread is None:
        return NOT_MEASURED
    rate = spread["median"]
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _quartiles(spread: dict) -> str:
    low, high = spread["quartiles"]
    return f"{low:.2f} to {high:.2f}"
