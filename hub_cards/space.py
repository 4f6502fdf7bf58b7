"""The Space as it is pushed: the folder, with the models pinned to a commit in its environment."""

import json
import shutil
import tempfile
from pathlib import Path

from httpx2 import TransportError
from huggingface_hub import HfApi, SpaceCard, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError

from tailmoe.hub_cards.repository import Pushed, Repository, check_repo_id
from tailmoe.training.errors import BadInputError
from tailmoe.training.families import FAMILIES

SPACE = Path(__file__).parents[1] / "spaces" / "image_classification"


def space_folder() -> Path:
    """The Space's folder in the source tree.

    Raises:
        BadInputError: If tailmoe is not installed from its source tree.
    """
    if not (SPACE / "app.py").is_file():
        raise BadInputError(
            f"There is no {SPACE}: the Space is in the source tree, installed with `pip install -e .`."
        )
    return SPACE


def push_space(repo_id: str, model: str, baseline: str | None = None, private: bool = False) -> Pushed:
    """Push the Space that shows a model of the Hub, pinned to the commit that its repository now has.

    Args:
        repo_id: `owner/name` of the Space.
        model: Repository of the model.
        baseline: Repository of the model to compare it with; no comparison if None.
        private: Of a Space that does not exist yet.

    Raises:
        BadInputError: As `Repository.push`, or if a model is not on the Hub, or not one that the Space can show.
    """
    for name in filter(None, (repo_id, model, baseline)):
        check_repo_id(name)
    variables = _pinned("MODEL", model) | ({} if baseline is None else _pinned("BASELINE", baseline))
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "space"
        shutil.copytree(space_folder(), staged, ignore=shutil.ignore_patterns("__pycache__"))
        card = SpaceCard.load(staged / "README.md")
        card.data.models = [name for name in (model, baseline) if name is not None]
        card.save(staged / "README.md")
        names = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
        return Repository(repo_id, "space", private).push(staged, names, f"Space of {model}", variables=variables)


def _pinned(variable: str, repo_id: str) -> dict[str, str]:
    """The environment that names a model and its commit."""
    try:
        commit = HfApi().model_info(repo_id).sha
        config = json.loads(Path(hf_hub_download(repo_id, "config.json", revision=commit)).read_text(encoding="utf-8"))
    except (RepositoryNotFoundError, EntryNotFoundError):
        raise BadInputError(f"There is no model `{repo_id}` on the Hub: `tailmoe push RUN {repo_id}` first.") from None
    except (HfHubHTTPError, TransportError) as error:
        raise BadInputError(f"The Hub does not answer for `{repo_id}`: {str(error).splitlines()[0]}") from None
    if config.get("model_type") not in FAMILIES or not config.get("class_counts"):
        titles = " or ".join(family.title for family in FAMILIES.values())
        raise BadInputError(f"`{repo_id}` is no {titles} with training counts, which the Space shows.")
    return {f"{variable}_ID": repo_id, f"{variable}_REVISION": commit}
