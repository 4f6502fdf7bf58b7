"""A repository on the Hub made equal to a folder: by one commit, or not at all."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from httpx2 import TransportError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import get_token, validate_repo_id
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")
RepoType = Literal["model", "dataset", "space"]
KIND_NAMES: dict[RepoType, str] = {"model": "a model", "dataset": "a data set", "space": "a Space"}
KEPT_THERE = (".gitattributes",)
WAITS = (1, 2, 4, 8)  # seconds before each further attempt
TRANSIENT = (408, 429, 500, 502, 503, 504)


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


def check_repo_id(repo_id: str) -> None:
    """Raise `BadInputError` unless it can be the name of a repository."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise BadInputError(f"`{repo_id}` is no name of a repository on the Hub: {error}") from None


class Repository:
    """A repository to push to. Nothing is asked of the Hub before `push`.

    Args:
        repo_id: `owner/name`.
        repo_type: `"model"`, `"dataset"` or `"space"`.
        private: Of a repository that does not exist yet.
        revision: The branch; it is created if missing. The main one if None.
        create_pr: Open a pull request instead of changing the branch.
    """

    def __init__(
        self,
        repo_id: str,
        repo_type: RepoType = "model",
        private: bool = False,
        revision: str | None = None,
        create_pr: bool = False,
    ):
        self.repo_id, self.repo_type, self.private = repo_id, repo_type, private
        self.revision, self.create_pr = revision or "main", create_pr
        self.api = HfApi()
        self.sent = False

    def push(
        self,
        folder: Path,
        names: list[str],
        message: str,
        check_deleted: Callable[[list[str]], None] = lambda names: None,
        variables: dict[str, str] | None = None,
    ) -> Pushed:
        """Make the repository hold these files and no others; nothing happens if it does already.

        Transient faults are passed by waiting; where an answer was lost, what the repository holds tells what happened.

        Args:
            folder: What the files' names are relative to; its README.md is the card.
            names: Of the files.
            message: Of the commit.
            check_deleted: Given the names of files that the commit would delete, raises if they must stay.
            variables: Of a Space: what its environment holds; set before the files are there, so that it starts with them.

        Raises:
            BadInputError: If the card is not valid, the token missing or not enough, the name that of a repository of
                another type, the repository changed meanwhile, or the Hub does not answer after several attempts.
        """
        sizes = {name: (folder / name).stat().st_size for name in names}
        for name, size in sizes.items():
            logger.info("%10.1f kB  %s", size / 1e3, name)
        logger.info("%10.1f kB  in %d files", sum(sizes.values()) / 1e3, len(sizes))
        files = {name: folder / name for name in names}
        try:
            self._prepare(RepoCard.load(files["README.md"]))
            self._set_variables(variables or {})
            return self._attempt(lambda: self._commit(files, message, check_deleted))
        except BadInputError:
            raise
        except HfHubHTTPError as error:
            raise BadInputError(f"Nothing was pushed to {self.repo_id}: {_reason(error)}") from None
        except TransportError as error:
            raise BadInputError(f"Nothing was pushed to {self.repo_id}: the Hub does not answer ({error}).") from None
        except ValueError as error:  # of the card's validation
            raise BadInputError(f"Nothing was pushed to {self.repo_id}: {' '.join(str(error).split())}") from None

    def _prepare(self, card: RepoCard) -> None:
        """Check token, card and the repository's type; create the repository and the branch where they are missing."""
        if get_token() is None:
            raise BadInputError("There is no token of the Hub: `hf auth login`, or set HF_TOKEN.")
        token = self._attempt(self.api.whoami)["auth"].get("accessToken") or {}
        if token.get("role") == "read":
            raise BadInputError("The token of the Hub can only read: make one that can write and `hf auth login`.")
        self._attempt(lambda: card.validate(repo_type=self.repo_type))
        self._check_type()
        sdk = {"space_sdk": "gradio"} if self.repo_type == "space" else {}
        self._attempt(
            lambda: self.api.create_repo(
                self.repo_id, repo_type=self.repo_type, private=self.private, exist_ok=True, **sdk
            )
        )
        if self.revision != "main":
            self._attempt(
                lambda: self.api.create_branch(
                    self.repo_id, repo_type=self.repo_type, branch=self.revision, exist_ok=True
                )
            )

    def _set_variables(self, variables: dict[str, str]) -> None:
        there = self._attempt(lambda: self.api.get_space_variables(self.repo_id)) if variables else {}
        for key, value in variables.items():
            if key not in there or there[key].value != value:  # setting one restarts the Space
                self._attempt(lambda key=key, value=value: self.api.add_space_variable(self.repo_id, key, value))

    def _check_type(self) -> None:
        def exists(repo_type: RepoType) -> bool:
            return self._attempt(lambda: self.api.repo_exists(self.repo_id, repo_type=repo_type))

        if exists(self.repo_type):
            return
        for other, kind in KIND_NAMES.items():
            if other != self.repo_type and exists(other):
                raise BadInputError(
                    f"`{self.repo_id}` is {kind} on the Hub, and {KIND_NAMES[self.repo_type]} is to be pushed: "
                    "give another name."
                )

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

    def _commit(self, files: dict[str, Path], message: str, check_deleted: Callable[[list[str]], None]) -> Pushed:
        head = self.api.repo_info(self.repo_id, repo_type=self.repo_type, revision=self.revision).sha
        there = self._files_at(head)
        if _equal(files, there):  # also after an answer that was lost
            return Pushed(f"{self._url()}/commit/{head}", head, changed=self.sent)
        if self.create_pr and (found := self._pull_request(files)) is not None:
            return found
        gone = [name for name in there if name not in files]
        check_deleted(gone)
        self.sent = True
        try:
            commit = self.api.create_commit(
                self.repo_id,
                [
                    *(CommitOperationAdd(name, path) for name, path in files.items()),
                    *(CommitOperationDelete(name) for name in gone),
                ],
                repo_type=self.repo_type,
                commit_message=message,
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

    def _files_at(self, revision: str) -> dict[str, RepoFile]:
        """The files of a commit by their names, without those that the Hub itself adds."""
        tree = self.api.list_repo_tree(self.repo_id, repo_type=self.repo_type, revision=revision, recursive=True)
        return {file.path: file for file in tree if isinstance(file, RepoFile) and file.path not in KEPT_THERE}

    def _pull_request(self, files: dict[str, Path]) -> Pushed | None:
        """The open pull request that already holds these files."""
        refs = self.api.list_repo_refs(self.repo_id, repo_type=self.repo_type, include_pull_requests=True)
        for ref in refs.pull_requests or []:
            if _equal(files, self._files_at(ref.ref)):
                return Pushed(f"{self._url()}/discussions/{ref.name}", ref.target_commit, changed=self.sent)
        return None

    def _url(self) -> str:
        prefix = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"{self.api.endpoint}/{prefix}{self.repo_id}"


def _equal(files: dict[str, Path], there: dict[str, RepoFile]) -> bool:
    """Whether these files of a commit, by their hashes, are those on this machine."""
    return there.keys() == files.keys() and all(_same(path, there[name]) for name, path in files.items())


def _same(path: Path, file: RepoFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    if file.lfs is None:
        return git_hash(path.read_bytes()) == file.blob_id
    with path.open("rb") as content:
        return sha_fileobj(content).hex() == file.lfs.sha256


def _asked_to_wait(error: HfHubHTTPError) -> int:
    header = error.response.headers.get("Retry-After", "")
    return min(int(header), 60) if header.isdigit() else 0


def _reason(error: HfHubHTTPError) -> str:
    status = "" if error.response is None else f" (status {error.response.status_code})"
    message = error.server_message or str(error).strip().splitlines()[0]
    return f"{message.rstrip('.')}{status}"
