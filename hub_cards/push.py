"""Pushes of runs to the Hub: whole, checked before, and one commit."""

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from httpx2 import TransportError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import get_token
from huggingface_hub.utils.sha import git_hash
from safetensors import SafetensorError

from tailmoe.hub_cards.model_card import write_card
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")
NEEDED = ("README.md", "config.json", "model.safetensors", "preprocessor_config.json", "results.json", "recipe.yaml")
LISTED = re.compile(r"[\w-]+\.py|figures/[\w-]+\.png|onnx/model\.onnx")
# a run of its own; caches; unfinished training
LEFT_HERE = re.compile(r"baseline/.*|__pycache__/.*|checkpoint-\d+/.*")
KEPT_THERE = (".gitattributes",)
WAITS = (1, 2, 4, 8)  # seconds before each further attempt
TRANSIENT = (408, 429, 500, 502, 503, 504)
LARGEST_DIFFERENCE = 1e-6
# in a process of its own, with the code that lies beside the weights
LOAD = """
import json, sys, torch
from transformers import AutoImageProcessor, AutoModelForImageClassification
folder = sys.argv[1]
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True).eval()
config, size = model.config, model.config.image_size
images = torch.randn(2, config.num_channels, size, size, generator=torch.Generator().manual_seed(0))
assert type(model).__module__.startswith("transformers_modules."), "the code beside the weights was not used"
with torch.inference_mode():
    print(json.dumps(model(pixel_values=images).logits.tolist()))
"""


@dataclass(frozen=True)
class Pushed:
    """Where a push went.

    Args:
        url: Of the commit, or of the pull request.
        oid: The commit that holds the files.
        changed: Whether it is a new one.
    """

    url: str
    oid: str
    changed: bool


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
    a process of its own, where they must give the logits that they give here. The run itself is never changed.

    Args:
        run: The run's folder.
        repo_id: `owner/name`.
        private: Of a repository that does not exist yet.
        revision: The branch; it is created if missing. The main one if None.
        create_pr: Open a pull request instead.

    Raises:
        BadInputError: If the run is not complete, the card not valid, the token missing or not enough, the repository
            changed meanwhile, or the Hub does not answer after several attempts.
    """
    names = files_to_push(run)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        for name in names:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(run) / name, staged / name)
        write_card(staged, repo_id)
        _check_loads(staged, str(run))
        for name in names:
            logger.info("%10.1f kB  %s", (staged / name).stat().st_size / 1e3, name)
        logger.info("%10.1f kB  in %d files", sum((staged / name).stat().st_size for name in names) / 1e3, len(names))
        return _Push(staged, names, repo_id, revision, create_pr).run(private)


def _check_loads(folder: Path, run: str) -> None:
    """Raise unless the weights give the same logits here and in a clean process."""
    import torch
    from transformers import AutoModelForImageClassification

    import tailmoe.modeling  # noqa: F401 (registers our models)

    try:
        model = AutoModelForImageClassification.from_pretrained(folder).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadInputError(f"The weights of `{run}` do not load: {str(error).strip().splitlines()[0]}") from None
    size = model.config.image_size
    images = torch.randn(2, model.config.num_channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(pixel_values=images).logits
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"HF_HOME": home, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", LOAD, str(folder)]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadInputError(f"The model of `{run}` does not load in a clean process: {reason}")
    difference = float((torch.tensor(json.loads(done.stdout.splitlines()[-1])) - logits).abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        raise BadInputError(
            f"The model of `{run}` answers differently in a clean process: logits differ by {difference}."
        )


class _Push:
    """One push of a staged folder; each attempt first looks at what the repository holds."""

    def __init__(self, folder: Path, names: list[str], repo_id: str, revision: str | None, create_pr: bool):
        self.repo_id = repo_id
        self.revision, self.create_pr = revision or "main", create_pr
        self.api = HfApi()
        self.contents = {name: (folder / name).read_bytes() for name in names}
        self.sent = False

    def run(self, private: bool) -> Pushed:
        if get_token() is None:
            raise BadInputError("There is no token of the Hub: `hf auth login`, or set HF_TOKEN.")
        try:
            token = self._attempt(self.api.whoami)["auth"].get("accessToken") or {}
            if token.get("role") == "read":
                raise BadInputError("The token of the Hub can only read: make one that can write and `hf auth login`.")
            card = ModelCard(self.contents["README.md"].decode())
            self._attempt(lambda: card.validate(repo_type="model"))
            self._attempt(lambda: self.api.create_repo(self.repo_id, private=private, exist_ok=True))
            if self.revision != "main":
                self._attempt(lambda: self.api.create_branch(self.repo_id, branch=self.revision, exist_ok=True))
            return self._attempt(self._commit)
        except BadInputError:
            raise
        except HfHubHTTPError as error:
            raise BadInputError(f"Nothing was pushed to {self.repo_id}: {_reason(error)}") from None
        except TransportError as error:
            raise BadInputError(f"Nothing was pushed to {self.repo_id}: the Hub does not answer ({error}).") from None
        except ValueError as error:  # of the card's validation
            raise BadInputError(f"Nothing was pushed to {self.repo_id}: {' '.join(str(error).split())}") from None

    def _attempt(self, call: Callable[[], Answer]) -> Answer:
        """The answer, after waiting where the Hub is busy or cut off."""
        for wait in (*WAITS, None):
            try:
                return call()
            except HfHubHTTPError as error:
                if wait is None or error.response is None or error.response.status_code not in TRANSIENT:
                    raise
                reason, wait = _reason(error), max(wait, _asked_to_wait(error))
            except TransportError as error:
                if wait is None:
                    raise
                reason = str(error) or type(error).__name__
            logger.info("The Hub: %s; trying again in %d s", reason, wait)
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _commit(self) -> Pushed:
        head = self.api.repo_info(self.repo_id, revision=self.revision).sha
        there = self._files_at(head)
        if self._equal(there):  # also after an answer that was lost
            return Pushed(f"{self.api.endpoint}/{self.repo_id}/commit/{head}", head, changed=self.sent)
        if self.create_pr and (found := self._pull_request()) is not None:
            return found
        adds = [CommitOperationAdd(name, content) for name, content in self.contents.items()]
        gone = [name for name in there if name not in self.contents and name not in KEPT_THERE]
        self.sent = True
        try:
            commit = self.api.create_commit(
                self.repo_id,
                [*adds, *(CommitOperationDelete(name) for name in gone)],
                commit_message=f"Push of {json.loads(self.contents['results.json'])['name']}",
                revision=self.revision,
                create_pr=self.create_pr,
                parent_commit=head,
            )
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code == 412:
                raise BadInputError(
                    f"Somebody else changed {self.repo_id} meanwhile; nothing was pushed. Look at it, then push again."
                ) from None
            raise
        return Pushed(commit.pr_url or commit.commit_url, commit.oid, changed=True)

    def _files_at(self, revision: str) -> dict[str, str]:
        tree = self.api.list_repo_tree(self.repo_id, revision=revision, recursive=True)
        return {
            file.path: file.blob_id if file.lfs is None else file.lfs.sha256
            for file in tree
            if isinstance(file, RepoFile)
        }

    def _equal(self, there: dict[str, str]) -> bool:
        """Whether these files of a tree, by their hashes, are those to be pushed."""
        there = {name: oid for name, oid in there.items() if name not in KEPT_THERE}
        return there.keys() == self.contents.keys() and all(
            there[name] in (git_hash(content), hashlib.sha256(content).hexdigest())
            for name, content in self.contents.items()
        )

    def _pull_request(self) -> Pushed | None:
        """The open pull request that already holds these files."""
        for ref in self.api.list_repo_refs(self.repo_id, include_pull_requests=True).pull_requests or []:
            if self._equal(self._files_at(ref.ref)):
                url = f"{self.api.endpoint}/{self.repo_id}/discussions/{ref.name}"
                return Pushed(url, ref.target_commit, changed=self.sent)
        return None


def _asked_to_wait(error: HfHubHTTPError) -> int:
    header = error.response.headers.get("Retry-After", "")
    return min(int(header), 60) if header.isdigit() else 0


def _reason(error: HfHubHTTPError) -> str:
    status = "" if error.response is None else f" (status {error.response.status_code})"
    message = error.server_message or str(error).strip().splitlines()[0]
    return f"{message.rstrip('.')}{status}"
