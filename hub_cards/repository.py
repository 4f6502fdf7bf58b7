"""A repository on the Hub made equal to a folder: by one commit, or not at all."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from httpx2 import TransportError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, Discussion, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import get_token, validate_repo_id

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
        create_pr: Open a pull request instead of changing the branch; one of the same message that the token's owner has
            open is brought up to date.
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
        self.first_head: str | None = None  # of the branch or pull request, before anything was sent

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
        files = {name: folder / name for name in names}
        sizes = {name: path.stat().st_size for name, path in files.items()}
        for name, size in sizes.items():
            logger.info("%10.1f kB  %s", size / 1e3, name)
        logger.info("%10.1f kB  in %d files", sum(sizes.values()) / 1e3, len(sizes))
        try:
            user = self._writer()
            self._create()
            self._set_variables(variables or {})
            return self._attempt(self._commit, files, message, check_deleted, user)
        except BadInputError:
            raise
        except (HfHubHTTPError, TransportError, ValueError) as error:  # the last is of the card's metadata
            raise BadInputError(f"Nothing was pushed to {self.repo_id}: {_reason(error)}") from None

    def _writer(self) -> str:
        """The name of the token's owner, if the token can write."""
        if get_token() is None:
            raise BadInputError("There is no token of the Hub: `hf auth login`, or set HF_TOKEN.")
        owner = self._attempt(self.api.whoami)
        if (owner["auth"].get("accessToken") or {}).get("role") == "read":
            raise BadInputError("The token of the Hub can only read: make one that can write and `hf auth login`.")
        return owner["name"]

    def _create(self) -> None:
        """Create the repository and the branch where they are missing; a name has one type."""
        if not self._attempt(self.api.repo_exists, self.repo_id, repo_type=self.repo_type):
            for other, kind in KIND_NAMES.items():
                if other != self.repo_type and self._attempt(self.api.repo_exists, self.repo_id, repo_type=other):
                    raise BadInputError(
                        f"`{self.repo_id}` is {kind} on the Hub, and {KIND_NAMES[self.repo_type]} is to be pushed: "
                        "give another name."
                    )
        sdk = {"space_sdk": "gradio"} if self.repo_type == "space" else {}
        there = {"repo_type": self.repo_type, "exist_ok": True}
        self._attempt(self.api.create_repo, self.repo_id, private=self.private, **there, **sdk)
        if self.revision != "main":
            self._attempt(self.api.create_branch, self.repo_id, branch=self.revision, **there)

    def _set_variables(self, variables: dict[str, str]) -> None:
        there = self._attempt(self.api.get_space_variables, self.repo_id) if variables else {}
        for key, value in variables.items():
            if key not in there or there[key].value != value:  # setting one restarts the Space
                self._attempt(self.api.add_space_variable, self.repo_id, key, value)

    def _attempt(self, call: Callable[..., Answer], *args: object, **kwargs: object) -> Answer:
        """The answer, after waiting where the Hub is busy or cut off."""
        for wait in WAITS:
            try:
                return call(*args, **kwargs)
            except HfHubHTTPError as error:
                if error.response is None or error.response.status_code not in TRANSIENT:
                    raise
                reason, wait = _reason(error), max(wait, _asked_to_wait(error))
            except TransportError as error:
                reason = str(error) or type(error).__name__
            logger.info("The Hub: %s; trying again in %d s", reason, wait)
            time.sleep(wait)
        return call(*args, **kwargs)

    def _commit(
        self, files: dict[str, Path], message: str, check_deleted: Callable[[list[str]], None], user: str
    ) -> Pushed:
        pull_request = self._pull_request(message, user) if self.create_pr else None
        revision = self.revision if pull_request is None else pull_request.git_reference
        head = self.api.repo_info(self.repo_id, repo_type=self.repo_type, revision=revision).sha
        self.first_head = self.first_head or head
        there = self.api.list_repo_files(self.repo_id, repo_type=self.repo_type, revision=head)
        gone = [name for name in there if name not in files and name not in KEPT_THERE]
        check_deleted(gone)
        operations = [CommitOperationAdd(name, path) for name, path in files.items()]
        try:
            commit = self.api.create_commit(  # leaves out files that are there, and makes no commit without any other
                self.repo_id,
                [*operations, *map(CommitOperationDelete, gone)],
                repo_type=self.repo_type,
                commit_message=message,
                revision=revision,
                create_pr=self.create_pr and pull_request is None,
                parent_commit=head,
            )
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code == 412:
                raise BadInputError(
                    f"Somebody else changed {self.repo_id} meanwhile; nothing was pushed. Look at it, then push again."
                ) from None
            raise
        except RuntimeError as error:  # an upload that failed: told is why
            raise error.__cause__ or error from None
        url = (commit.pr_url or commit.commit_url) if pull_request is None else pull_request.url
        return Pushed(url, commit.oid, changed=commit.oid != self.first_head)  # also after an answer that was lost

    def _pull_request(self, message: str, user: str) -> Discussion | None:
        """The pull request of this message that the user has open."""
        opened = self.api.get_repo_discussions(
            self.repo_id,
            repo_type=self.repo_type,
            author=user,
            discussion_type="pull_request",
            discussion_status="open",
        )
        return next((each for each in opened if each.title == message), None)


def _asked_to_wait(error: HfHubHTTPError) -> int:
    header = error.response.headers.get("Retry-After", "")
    return min(int(header), 60) if header.isdigit() else 0


def _reason(error: Exception) -> str:
    """In one line."""
    if isinstance(error, TransportError):
        return f"the Hub does not answer ({error})."
    if not isinstance(error, HfHubHTTPError):
        return " ".join(str(error).split())
    status = "" if error.response is None else f" (status {error.response.status_code})"
    message = error.server_message or str(error).strip().splitlines()[0]
    return f"{message.rstrip('.')}{status}"
