"""Studies of two arms with the same seeds: what the difference is, and whether chance explains it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from tailmoe.training.errors import BadInputError
from tailmoe.training.results.results import STUDY_NAME, StudyResults
from tailmoe.training.results.scores import EXPERT_METRICS

COMPARED = ("accuracy", *EXPERT_METRICS)
CONFIDENCE = 0.95
RESAMPLES = 9999


def load_pairs(paths: Sequence[str | Path]) -> list[StudyResults]:
    """Studies, each with a baseline, from files that `tailmoe study` wrote, or the folders they are in.

    Raises:
        BadInputError: If a file is no study, has no baseline, or its arms were not trained with the same seeds.
    """
    studies = []
    for path in map(Path, paths):
        path = path / STUDY_NAME if path.is_dir() else path
        study = StudyResults.load(path)
        if study.baseline is None:
            raise BadInputError(f"`{path}` has no baseline to compare with: give a study of a recipe that has one.")
        if study.baseline.seeds != study.seeds:
            raise BadInputError(
                f"`{path}`: the arms have different seeds, {study.seeds} and {study.baseline.seeds}: train both with the same."
            )
        studies.append(study)
    return studies


def compare(studies: Sequence[StudyResults]) -> list[dict]:
    """What the model of each study differs in from its baseline, seed by seed.

    The p-values of one metric are corrected by Holm's method for the number of studies of one imbalance factor.

    Args:
        studies: As `load_pairs` returns them.

    Returns:
        For each study a dict from the name of each metric of `COMPARED` that it has to what `paired_test` returns, and
        `corrected_p_value`.
    """
    tests = [
        {
            metric: paired_test(study.values(metric), study.baseline.values(metric))
            for metric in COMPARED
            if metric in study.metrics
        }
        for study in studies
    ]
    families: dict[tuple, list[dict]] = {}
    for study, of_study in zip(studies, tests, strict=True):
        for metric, test in of_study.items():
            families.setdefault((metric, study.recipe["data"].get("imbalance_factor")), []).append(test)
    for family in families.values():
        for test, corrected in zip(family, holm([test["p_value"] for test in family]), strict=True):
            test["corrected_p_value"] = corrected
    return tests


def paired_test(model: Sequence[float], baseline: Sequence[float]) -> dict:
    """Compare two arms seed by seed: Wilcoxon's signed-rank test, two-sided, and the size of the effect.

    Args:
        model: Values of one metric, one for each seed.
        baseline: Those of the baseline, in the same order.

    Returns:
        `p_value`; `difference`, the mean of model minus baseline; `effect_size`, the matched-pairs rank-biserial
        correlation in [-1, 1], see `rank_biserial`; and for both a `..._interval`, 95 % by the percentile bootstrap over
        seeds, None for a single seed.
    """
    differences = np.asarray(model, dtype=float) - np.asarray(baseline, dtype=float)
    p_value = stats.wilcoxon(differences).pvalue if differences.any() else 1.0
    results = {"p_value": float(p_value)}
    for name, statistic in (("difference", np.mean), ("effect_size", rank_biserial)):
        results[name] = float(statistic(differences))
        results[f"{name}_interval"] = _interval(differences, statistic)
    return results


def rank_biserial(differences: np.ndarray, axis: int = -1) -> np.ndarray:
    """Along one axis: ranks of the positive differences minus those of the negative, over all of them (Kerby 2014).

    1 when all differences are positive, -1 when all are negative, 0 when there is none or they balance.
    """
    ranks = stats.rankdata(np.abs(differences), axis=axis) * np.sign(differences)
    return ranks.sum(axis=axis) / np.maximum(np.abs(ranks).sum(axis=axis), 0.5)  # no rank is below 1


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979): the chance of any false finding among them stays at the level."""
    order = np.argsort(p_values)
    stepped = np.sort(p_values) * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return corrected.tolist()


def _interval(differences: np.ndarray, statistic) -> list[float] | None:
    if len(differences) < 2:
        return None
    interval = stats.bootstrap(
        (differences,), statistic, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    return [float(interval.low), float(interval.high)]
