"""The study that a run is of, which lies in one place for all its runs."""

from pathlib import Path

from tailmoe.training.errors import BadInputError
from tailmoe.training.results.results import STUDY_NAME, RunResults, StudyResults

PUBLISHED, RESULTS = (Path(__file__).parent / name for name in ("models", "results"))


def find_study(folder: Path, results: RunResults) -> StudyResults | None:
    """The study of a run, or that of the baselines if the run is one; None if there is none.

    It lies beside the results in a repository, above the folder `seed-<n>` of a run, and for published models in
    `hub_cards/results`.

    Args:
        folder: Of the run.
        results: Of the run.

    Raises:
        BadInputError: If the file beside the results is no study, or one of other runs.
    """
    beside, folder = folder / STUDY_NAME, folder.resolve()
    if beside.exists():
        study = _arm_of(StudyResults.load(beside), results)
        if study is None:
            raise BadInputError(f"`{beside}` is a study of other runs than the one beside it: remove it.")
        return study
    run = folder.parent if folder.name == "baseline" else folder
    if folder.parent == PUBLISHED.resolve():
        path = RESULTS / f"{results.name.removesuffix('-baseline')}.json"
    elif run.name == f"seed-{results.seed}":
        path = run.parent / STUDY_NAME
    else:
        return None
    return _arm_of(StudyResults.load(path), results) if path.exists() else None


def _arm_of(study: StudyResults, run: RunResults) -> StudyResults | None:
    """The arm of a study that the run is of."""
    for arm in (study, study.baseline):
        if arm is not None and arm.recipe == run.recipe and run.seed in arm.seeds:
            same = arm.runs[arm.seeds.index(run.seed)]
            if run.metrics is not None and same.metrics.accuracy == run.metrics.accuracy:
                return arm
    return None
