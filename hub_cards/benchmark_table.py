"""Tables of the benchmark: for the terminal and for the README."""

from pathlib import Path

from tailmoe.hub_cards.results_table import format_table
from tailmoe.training.benchmark.record import Benchmark
from tailmoe.training.results.scores import NOT_MEASURED

CAPTION = (
    "Median rates; ratio to the naive baseline's, measured in turn, with quartiles over the rounds. Naive baselines: for `data` "
    "images one by one in a DataLoader with a process for each core, for `train` with these a plain loop in torch's own layout, "
    "for `trainer` the same step in a loop without a Trainer, for `inference` the model as it is loaded, for `backbones` the "
    "plain backbone with one linear classifier. Of limit: share of a large float32 matrix product's rate."
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
    return [
        {
            "training from": run["layout"],
            "classes": f"{run['classes']:,}",
            "images": f"{run['images']:,}",
            "peak memory": f"{run['peak_memory_gb']:.2f} GB",
            "of a decoder": f"{run['worker_memory_gb']:.2f} GB",
            "bytes an image": f"{memory['bytes_per_image'][run['layout']]:,.0f}",
            "images/s": f"{run['images_per_second']:,.0f}",
        }
        for run in (memory["runs"] if memory else [])
    ]


def _row(figure: dict) -> dict[str, str]:
    ratio, share, target = figure["ratio"], figure["details"].get("share_of_limit"), figure["target"]
    return {
        "part": f"{figure['case']}: {figure['name']}",
        "unit": figure["unit"],
        "tailmoe": _rate(figure["rate"]),
        "naive baseline": _rate(figure["naive_baseline"]),
        "ratio": NOT_MEASURED
        if ratio is None
        else "{:.2f} ({:.2f} to {:.2f})".format(ratio["median"], *ratio["quartiles"]),
        "of limit": NOT_MEASURED if share is None else f"{100 * share:.0f} %",
        "wanted": NOT_MEASURED if target is None else f"{target:g}x",
    }


def _rate(spread: dict | None) -> str:
    if spread is None:
        return NOT_MEASURED
    rate = spread["median"]
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
