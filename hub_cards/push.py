"""Pushes of runs to the Hub: complete, checked before, and without the paths of this machine."""

import re
import shlex
import shutil
import tempfile
from pathlib import Path

import yaml
from safetensors import SafetensorError

from tailmoe.hub_cards.model_card import write_card
from tailmoe.hub_cards.repository import Pushed, Repository
from tailmoe.hub_cards.study_of_run import find_study
from tailmoe.training.errors import BadInputError
from tailmoe.training.recipe import load_recipe
from tailmoe.training.results.results import RESULTS_NAME, STUDY_NAME, Results, RunResults, StudyResults
from tailmoe.training.run import RECIPE_NAME

CARD_NAME = "README.md"
NEEDED = ("config.json", "model.safetensors", "preprocessor_config.json", RESULTS_NAME, RECIPE_NAME)
LISTED = re.compile(rf"{re.escape(CARD_NAME)}|{re.escape(STUDY_NAME)}|[\w-]+\.py|figures/[\w-]+\.png|onnx/model\.onnx")
# a run of its own; caches; unfinished training
LEFT_HERE = re.compile(r"baseline/.*|__pycache__/.*|checkpoint-\d+/.*")
LARGEST_DIFFERENCE = 1e-6


def files_to_push(run: str | Path) -> list[str]:
    """Paths in a run's folder that belong into its repository.

    Raises:
        BadInputError: If one is missing, not among those that a run writes (a pickle, say), or a link out of the folder.
    """
    folder = Path(run)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    for path, name in zip(paths, names, strict=True):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise BadInputError(f"`{name}` of `{run}` is a link to {path.resolve()}, out of the folder: remove it.")
    kept = [name for name in names if not LEFT_HERE.fullmatch(name)]
    for name in NEEDED:
        if name not in kept:
            raise BadInputError(
                f"`{run}` holds no finished run: {name} is missing. `tailmoe train` writes all of them."
            )
    for name in kept:
        if name not in NEEDED and not LISTED.fullmatch(name):
            raise BadInputError(f"`{name}` of `{run}` is not a file that a run writes: move it elsewhere, then push.")
    return kept


def push_run(
    run: str | Path,
    repo_id: str,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
) -> Pushed:
    """Push a finished run as one commit that makes the repository equal to it; nothing happens if it is already.

    Before anything is sent the files are listed, the card is rendered for the repository, and the weights are loaded in
    a process of its own, where they must give the logits that they give here. Of paths on this machine, such as that of
    the data, the last part alone is sent. The run itself is never changed.

    Args:
        run: The run's folder.
        repo_id: `owner/name`.
        private: Of a repository that does not exist yet.
        revision: The branch; it is created if missing. The main one if None.
        create_pr: Open a pull request instead.

    Raises:
        BadInputError: If the run is not complete or does not load, or as `Repository.push`.
    """
    names = files_to_push(run)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        for name in names:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(run) / name, staged / name)
        results = RunResults.load(Path(run) / RESULTS_NAME)
        _stage_records(staged, results, find_study(Path(run), results))
        write_card(staged, repo_id)
        names = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
        _check_loads(staged, str(run))
        repository = Repository(repo_id, "model", private, revision, create_pr)
        return repository.push(staged, names, f"Push of {results.name}")


def _stage_records(folder: Path, results: RunResults, study: StudyResults | None) -> None:
    """Write the results, the study and the recipe, with the last part alone of paths on this machine."""
    load_recipe(str(folder / RECIPE_NAME))  # the card says that it trains
    recipe = yaml.safe_load((folder / RECIPE_NAME).read_text(encoding="utf-8"))
    _forget_paths(recipe)
    (folder / RECIPE_NAME).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    for record, name in ((results, RESULTS_NAME), (study, STUDY_NAME)):
        if record is not None:
            _forget_paths_of(record)
            record.save(folder / name)


def _forget_paths_of(results: Results) -> None:
    results.command = shlex.join(_last_part(word) for word in shlex.split(results.command))
    results.dataset.name = _last_part(results.dataset.name)
    _forget_paths(results.recipe)
    if results.baseline is not None:
        _forget_paths_of(results.baseline)


def _forget_paths(recipe: dict) -> None:
    """Those of a recipe and its baseline, in place."""
    for each in (recipe, recipe.get("baseline") or {}):
        if "data" in each:
            each["data"] = {key: _last_part(value) for key, value in each["data"].items()}


def _last_part(value: object) -> object:
    """The last part of a path that tells of this machine, also behind a `key=`; anything else as it is."""
    key, equals, path = value.rpartition("=") if isinstance(value, str) else ("", "", "")
    if Path(path).is_absolute() or path.startswith(("~", "..")):
        return f"{key}{equals}{Path(path).expanduser().resolve().name}"
    return value


def _check_loads(folder: Path, run: str) -> None:
    """Raise unless the weights give the same logits here and in a clean process."""
    from transformers import AutoModelForImageClassification

    import tailmoe.modeling  # noqa: F401 (registers our models)
    from tailmoe.hub_cards.clean_process import DoesNotLoadError, logits_in_clean_process
    from tailmoe.hub_cards.fixed_images import logits_of

    try:
        model = AutoModelForImageClassification.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadInputError(f"The weights of `{run}` do not load: {str(error).strip().splitlines()[0]}") from None
    try:
        elsewhere = logits_in_clean_process(folder)
    except DoesNotLoadError as reason:
        raise BadInputError(f"The model of `{run}` does not load in a clean process: {reason}") from None
    difference = float((elsewhere - logits_of(model)).abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        raise BadInputError(
            f"The model of `{run}` answers differently in a clean process: logits differ by {difference}."
        )
