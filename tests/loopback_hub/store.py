"""What the Hub keeps: content by its hash, repositories with their refs, commits with their trees."""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

MAIN = "refs/heads/main"
LFS_PATTERNS = ("*.safetensors", "*.bin", "*.onnx", "*.parquet", "*.arrow", "*.zip", "*.pt", "*.pkl", "*.npy", "*.png")


class HubError(Exception):
    """An answer other than success: its status, message, and the code by which the client knows it."""

    def __init__(self, status: int, message: str, code: str | None = None, content: dict | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.content = status, message, code, content or {}


@dataclass(frozen=True)
class Entry:
    """One file of a tree: `oid` as git has it, `sha256` of the content, whether LFS holds it."""

    oid: str
    size: int
    sha256: str
    lfs: bool = False


@dataclass
class Repository:
    """A repository and where its refs point."""

    kind: str
    name: str
    private: bool
    sdk: str | None = None
    refs: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)  # of a Space
    pull_requests: list[dict] = field(default_factory=list)  # `title`, `author`, `status`; the first has the number 1


def now() -> str:
    """The time as the Hub writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def pointer(sha256: str, size: int) -> bytes:
    """What git holds of a file that LFS has."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(content: bytes) -> str:
    """The name of this content in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Store:
    """Everything under one folder. Writing a repository's file is the one step that makes a commit visible."""

    def __init__(self, root: Path):
        self.root, self.lock = root, threading.RLock()

    def blob(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256

    def put(self, content: bytes) -> Entry:
        """Keep content that is not in LFS."""
        sha256 = hashlib.sha256(content).hexdigest()
        _write(self.blob(sha256), content)
        return Entry(git_oid(content), len(content), sha256)

    def put_large(self, sha256: str, content: bytes) -> None:
        """Keep content of LFS, if its hash is as announced."""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise HubError(400, "BadDigest: the content does not match the oid")
        _write(self.blob(sha256), content)

    def repository(self, kind: str, name: str) -> Repository | None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return Repository(**json.loads((self._folder(kind, name) / "repository.json").read_bytes()))
        return None

    def save(self, repository: Repository) -> None:
        path = self._folder(repository.kind, repository.name) / "repository.json"
        _write(path, json.dumps(dataclasses.asdict(repository)).encode())

    def create(self, repository: Repository, author: str) -> None:
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)
        tree = {".gitattributes": self.put(attributes.encode())}
        self.add_commit(repository, MAIN, None, tree, "initial commit", "", author)

    def remove(self, repository: Repository) -> None:
        shutil.rmtree(self._folder(repository.kind, repository.name))

    def commit(self, repository: Repository, oid: str) -> dict:
        path = self._folder(repository.kind, repository.name) / "commits" / f"{oid}.json"
        commit = json.loads(path.read_bytes())
        return commit | {"tree": {name: Entry(**entry) for name, entry in commit["tree"].items()}}

    def history(self, repository: Repository, oid: str) -> list[dict]:
        """The commit and those before it, the newest first."""
        commits = []
        while oid is not None:
            commits.append(self.commit(repository, oid))
            oid = commits[-1]["parent"]
        return commits

    def resolve(self, repository: Repository, revision: str) -> str:
        """The commit that a branch, a tag, a full ref or (the start of) a commit's own name means."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in repository.refs:
                return repository.refs[ref]
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            folder = self._folder(repository.kind, repository.name) / "commits"
            found = [path.stem for path in folder.glob(f"{revision}*.json")]
            if len(found) == 1:
                return found[0]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def add_commit(
        self,
        repository: Repository,
        ref: str,
        parent: str | None,
        tree: dict[str, Entry],
        title: str,
        message: str,
        author: str,
    ) -> str:
        """Write a commit and let the ref point to it."""
        commit = {
            "oid": secrets.token_hex(20),
            "parent": parent,
            "title": title,
            "message": message,
            "author": author,
            "date": now(),
            "tree": {name: dataclasses.asdict(entry) for name, entry in tree.items()},
        }
        folder = self._folder(repository.kind, repository.name)
        _write(folder / "commits" / f"{commit['oid']}.json", json.dumps(commit).encode())
        repository.refs[ref] = commit["oid"]
        self.save(repository)
        return commit["oid"]

    def _folder(self, kind: str, name: str) -> Path:
        return self.root / "repositories" / kind / name


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.write_bytes(content)
    os.replace(part, path)
