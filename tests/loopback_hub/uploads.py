"""Uploads: which files go to LFS, and how a commit's lines change a tree."""

import base64
import fnmatch
import json

from loopback_hub.store import Entry, HubError, Repository, Store, git_oid, now, pointer


def upload_modes(store: Store, tree: dict[str, Entry], files: list[dict]) -> list[dict]:
    """For each file that is to be uploaded, whether by LFS or in the commit, and what is there of that name."""
    attributes = store.blob(tree[".gitattributes"].sha256).read_text() if ".gitattributes" in tree else ""
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    modes = []
    for file in files:
        large = any(fnmatch.fnmatch(file["path"].rsplit("/", 1)[-1], pattern) for pattern in patterns)
        large = large or b"\0" in base64.b64decode(file.get("sample", ""))
        mode = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if (old := tree.get(file["path"])) is not None:
            mode["oid"] = old.sha256 if old.lfs else old.oid
        modes.append(mode)
    return modes


def read_lines(body: bytes) -> tuple[dict, list[tuple[str, dict]]]:
    """The header and the operations of a commit's body."""
    lines = [json.loads(line) for line in body.splitlines() if line.strip()]
    if not lines or lines[0]["key"] != "header" or not lines[0]["value"].get("summary"):
        raise HubError(400, "The first line must be a header with a summary")
    return lines[0]["value"], [(line["key"], line["value"]) for line in lines[1:]]


def changed_tree(store: Store, tree: dict[str, Entry], operations: list[tuple[str, dict]]) -> dict[str, Entry]:
    """The tree after all operations.

    Raises:
        HubError: If one of them is not possible; the tree stays as it is.
    """
    tree = dict(tree)
    for key, value in operations:
        path = value["path"]
        if path.startswith("/") or {"", ".", "..", ".git"} & set(path.rstrip("/").split("/")):
            raise HubError(400, f"Invalid path: {path}")
        if key == "file":
            tree[path] = store.put(base64.b64decode(value["content"], validate=True))
        elif key == "lfsFile":
            blob = store.blob(value["oid"])
            if not blob.exists():
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            size = blob.stat().st_size
            tree[path] = Entry(git_oid(pointer(value["oid"], size)), size, value["oid"], lfs=True)
        elif key == "deletedFile":
            if path not in tree:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            del tree[path]
        elif key == "deletedFolder":
            tree = {name: entry for name, entry in tree.items() if not name.startswith(path.rstrip("/") + "/")}
        else:
            raise HubError(400, f"Unknown operation {key}")
    return tree


def commit(store: Store, repository: Repository, revision: str, body: bytes, author: str, pull_request: bool) -> dict:
    """Apply a commit's body to a branch, or to a new pull request from it; all of it or nothing."""
    header, operations = read_lines(body)
    ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
    if ref not in repository.refs:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    parent = repository.refs[ref]
    wanted = header.get("parentCommit")
    if wanted and not parent.startswith(wanted):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    tree = changed_tree(store, store.commit(repository, parent)["tree"], operations)
    title, message = header["summary"], header.get("description", "")
    target, number = ref, None
    if pull_request:
        repository.pull_requests.append({"title": title, "author": author, "status": "open", "createdAt": now()})
        number = len(repository.pull_requests)
        target = f"refs/pr/{number}"
    oid = store.add_commit(repository, target, parent, tree, title, message, author)
    return {"oid": oid, "pull_request": number}
