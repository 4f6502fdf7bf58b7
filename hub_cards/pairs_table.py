"""The table of studies with two arms: the model beside its baseline, and what chance explains of the difference."""

from collections.abc import Sequence
from pathlib import Path

from tailmoe.hub_cards.results_table import format_table
from tailmoe.training.recipes.shipped import grid_names
from tailmoe.training.results.results import StudyResults
from tailmoe.training.results.scores import EXPERT_METRICS, NOT_MEASURED, Spread, percent
from tailmoe.training.studies.paired import compare, load_pairs

SHARES = dict(zip(EXPERT_METRICS, ("routing entropy", "load entropy", "expert similarity"), strict=True))
LEAST_SEEDS = 5  # fewer say nothing about chance
CAPTION = (
    "Without and with the soft nearest neighbour loss: accuracy in % on test images after the last epoch, mean ± standard "
    "deviation over seeds. Gain: points, with the 95 % bootstrap interval over seeds. Effect: matched-pairs rank-biserial "
    "correlation, -1 to 1, likewise. p: Wilcoxon's signed-rank test over seeds, two-sided, corrected by Holm's method for "
    "the number of data sets with the same imbalance factor; with n seeds it cannot be below 2 / 2^n before correction. "
    "Routing entropy: mean over images of the gate's entropy / log K, 0 rigid to 1 uniform. Load entropy: entropy of the "
    "mean gate / log K. Expert similarity: mean cosine of the pairs of experts' first-layer weights. These three without "
    f"→ with (p). Effects and p-values from {LEAST_SEEDS} seeds on."
)
NO_PAIRS = "No pair has been measured yet."


def pairs_table(studies: Sequence[StudyResults], markdown: bool = False) -> str:
    """A row for each study.

    Args:
        studies: As `tailmoe.training.studies.paired.load_pairs` returns them, at least one.
        markdown: Markdown instead of plain text.
    """
    return format_table([_row(*pair) for pair in zip(studies, compare(studies), strict=True)], markdown)


def readme_pairs(results_dir: str | Path) -> str:
    """The Markdown table of the studies of SNNL-MoE's grid of recipes that have been measured.

    Raises:
        BadInputError: If a file is not a study of two arms.
    """
    paths = [path for name in grid_names("snnl") if (path := Path(results_dir) / f"{name}.json").is_file()]
    return f"{pairs_table(load_pairs(paths), markdown=True)}\n\n{CAPTION}" if paths else NO_PAIRS


def _row(study: StudyResults, tests: dict[str, dict]) -> dict[str, str]:
    baseline, metrics, accuracy = study.baseline.metrics, study.metrics, tests["accuracy"]
    tested = len(study.seeds) >= LEAST_SEEDS
    return {
        "recipe": study.name,
        "epochs": study.setting["epochs"],
        "seeds": str(len(study.seeds)),
        "without": percent(baseline["accuracy"]),
        "with": percent(metrics["accuracy"]),
        "gain": _with_interval(accuracy, "difference", 100),
        "effect": _with_interval(accuracy, "effect_size") if tested else NOT_MEASURED,
        "p": _p(accuracy) if tested else NOT_MEASURED,
        **{title: _share(name, baseline, metrics, tests, tested) for name, title in SHARES.items()},
    }


def _share(
    name: str, baseline: dict[str, Spread], metrics: dict[str, Spread], tests: dict[str, dict], tested: bool
) -> str:
    if name not in tests:
        return NOT_MEASURED
    p = f" ({_p(tests[name])})" if tested else ""
    return f"{baseline[name].mean:.3f} → {metrics[name].mean:.3f}{p}"


def _with_interval(test: dict, name: str, factor: float = 1) -> str:
    interval = test[f"{name}_interval"]
    between = "" if interval is None else f" ({factor * interval[0]:+.2f} to {factor * interval[1]:+.2f})"
    return f"{factor * test[name]:+.2f}{between}"


def _p(test: dict) -> str:
    return f"{test['corrected_p_value']:.2g}"
