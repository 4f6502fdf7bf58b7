"""The Hub's HTTP interface, as far as `huggingface_hub`, transformers and datasets use it here."""

import contextlib
import json
import re
import secrets
import socket
import threading
import time
from pathlib import Path
from urllib.parse import quote, unquote

import uvicorn
import yaml
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from loopback_hub import uploads
from loopback_hub.faults import Fault, close, cut, refuse
from loopback_hub.store import HubError, Repository, Store, git_oid, pointer

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
TOKENS = {
    "hf_write": {"name": "tester", "role": "write", "orgs": ["zoo", "uoft-cs"]},
    "hf_read": {"name": "reader", "role": "read", "orgs": []},
}


class LoopbackHub:
    """An ASGI application. `faults` are injected in order; `requests` has the method and path of all that came."""

    def __init__(self, root: Path):
        self.store = Store(root)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.signature = secrets.token_hex(8)

    async def __call__(self, scope, receive, send) -> None:
        request = Request(scope, receive)
        self.requests.append((request.method, request.url.path))
        fault = next((fault for fault in self.faults if fault.meets(request)), None)
        if fault is not None:
            fault.times -= 1
            if await refuse(fault, request, scope, receive, send):
                return
        try:
            response = await self._answer(request, scope["raw_path"].split(b"?")[0].decode())
        except HubError as error:
            headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
            response = JSONResponse({"error": error.message, **error.content}, error.status, headers=headers)
        if fault is not None and fault.action == "lose_answer":
            close(send)
            return
        with contextlib.suppress(ConnectionAbortedError):
            await response(scope, receive, cut(fault, send) if fault and fault.action == "truncate" else send)

    async def _answer(self, request: Request, raw_path: str) -> Response:
        # split before unquoting: a slash within a revision arrives quoted
        parts = [unquote(part) for part in raw_path.split("/")[1:]]
        match parts:
            case ["_storage", "verify"]:
                return JSONResponse({})
            case ["_storage", sha256]:
                return await self._storage(request, sha256)
            case ["api", "whoami-v2"]:
                return self._who(request)
            case ["api", "repos", "create"]:
                return await self._create(request)
            case ["api", "repos", "delete"]:
                return await self._delete(request)
            case ["api", "validate-yaml"]:
                return _validated((await request.json())["content"])
            case ["api", kind, owner, name, *rest] if kind in KINDS:
                return await self._repository_api(
                    request, self._visible(request, KINDS[kind], f"{owner}/{name}"), rest
                )
        kind, parts = (KINDS[parts[0]], parts[1:]) if parts[0] in KINDS else ("model", parts)
        match parts:
            case [owner, name, "info", "lfs", "objects", "batch"]:
                repository = self._visible(request, kind, f"{owner}/{name.removesuffix('.git')}")
                return await self._lfs_batch(request, repository)
            case [owner, name, "resolve", revision, *path]:
                return self._file(request, self._visible(request, kind, f"{owner}/{name}"), revision, "/".join(path))
        raise HubError(404, "Not found")

    # who asks, and what they may

    def _user(self, request: Request) -> dict | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        user = TOKENS.get(header.removeprefix("Bearer ").strip())
        if user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user

    def _writer(self, request: Request, owner: str) -> dict:
        user = self._user(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        if user["role"] != "write" or owner not in (user["name"], *user["orgs"]):
            raise HubError(403, f'You don\'t have the rights to write under the namespace "{owner}"')
        return user

    def _visible(self, request: Request, kind: str, name: str) -> Repository:
        user, repository = self._user(request), self.store.repository(kind, name)
        member = user is not None and name.split("/")[0] in (user["name"], *user["orgs"])
        if repository is None or (repository.private and not member):
            status, message = (401, "Invalid username or password.") if user is None else (404, "Repository not found")
            raise HubError(status, message, "RepoNotFound")
        return repository

    def _who(self, request: Request) -> Response:
        user = self._user(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        token = {"displayName": "loopback", "role": user["role"], "createdAt": "2026-01-01T00:00:00.000Z"}
        orgs = [{"type": "org", "name": name, "fullname": name, "roleInOrg": "admin"} for name in user["orgs"]]
        auth = {"type": "access_token", "accessToken": token}
        return JSONResponse({"type": "user", "id": user["name"], "name": user["name"], "orgs": orgs, "auth": auth})

    # repositories

    def _url(self, request: Request, repository: Repository) -> str:
        prefix = "" if repository.kind == "model" else f"{repository.kind}s/"
        return f"{request.url.scheme}://{request.headers['host']}/{prefix}{repository.name}"

    async def _create(self, request: Request) -> Response:
        asked = await request.json()
        user = self._user(request)
        owner = asked.get("organization") or (user or {}).get("name", "")
        self._writer(request, owner)
        kind, name = asked.get("type") or "model", f"{owner}/{asked['name']}"
        with self.store.lock:
            if (old := self.store.repository(kind, name)) is not None:
                content = {"url": self._url(request, old), "name": name}
                raise HubError(409, f"You already created this {kind} repo", content=content)
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            repository = Repository(kind, name, private, asked.get("sdk"))
            self.store.create(repository, user["name"])
        return JSONResponse({"url": self._url(request, repository), "name": name})

    async def _delete(self, request: Request) -> Response:
        asked = await request.json()
        owner = asked.get("organization") or (self._user(request) or {}).get("name", "")
        repository = self._visible(request, asked.get("type") or "model", f"{owner}/{asked['name']}")
        self._writer(request, owner)
        self.store.remove(repository)
        return JSONResponse({})

    async def _repository_api(self, request: Request, repository: Repository, rest: list[str]) -> Response:
        store, query = self.store, request.query_params
        match [request.method, *rest]:
            case ["GET"]:
                return JSONResponse(self._info(repository, store.resolve(repository, "main")))
            case ["GET", "revision", revision]:
                return JSONResponse(self._info(repository, store.resolve(repository, revision)))
            case ["GET", "tree", revision, *path]:
                oid = store.resolve(repository, revision)
                recursive = query.get("recursive", "").lower() in ("1", "true")
                return JSONResponse(self._rows(repository, oid, "/".join(path), recursive))
            case ["POST", "paths-info", revision]:
                paths = {path.strip("/") for path in (await request.form()).getlist("paths")}
                rows = self._rows(repository, store.resolve(repository, revision), "", recursive=True)
                return JSONResponse([row for row in rows if row["path"] in paths])
            case ["GET", "discussions"]:
                return JSONResponse(_discussions(repository, query))
            case ["GET", "refs"]:
                return JSONResponse(_refs(repository))
            case ["GET", "commits", revision]:
                history = store.history(repository, store.resolve(repository, revision))
                return JSONResponse([_commit_row(commit) for commit in history])
        user = self._writer(request, repository.name.split("/")[0])
        match [request.method, *rest]:
            case ["GET" | "POST", "variables"]:
                asked = await request.json() if request.method == "POST" else None
                with store.lock:
                    repository = store.repository(repository.kind, repository.name)
                    if asked is not None:
                        repository.variables[asked["key"]] = asked["value"]
                        store.save(repository)
                return JSONResponse({key: {"value": value} for key, value in repository.variables.items()})
            case ["PUT", "settings"]:
                asked = await request.json()
                with store.lock:
                    repository = store.repository(repository.kind, repository.name)
                    repository.private = asked.get("visibility") == "private" or bool(asked.get("private"))
                    store.save(repository)
                return JSONResponse({"private": repository.private})
            case ["POST", "branch" | "tag" as what, name]:
                return await self._add_ref(request, repository, what, name)
            case ["POST", "preupload", revision]:
                tree = store.commit(repository, store.resolve(repository, revision))["tree"]
                return JSONResponse({"files": uploads.upload_modes(store, tree, (await request.json())["files"])})
            case ["POST", "commit", revision]:
                body, pull_request = await request.body(), bool(query.get("create_pr"))
                with store.lock:
                    fresh = store.repository(repository.kind, repository.name)
                    done = uploads.commit(store, fresh, revision, body, user["name"], pull_request)
                return JSONResponse(self._commit_answer(request, repository, done))
        raise HubError(404, f"No such endpoint here: {request.method} {'/'.join(rest)}")

    def _commit_answer(self, request: Request, repository: Repository, done: dict) -> dict:
        url = self._url(request, repository)
        answer = {"success": True, "commitOid": done["oid"], "commitUrl": f"{url}/commit/{done['oid']}"}
        if done["pull_request"] is not None:
            answer["pullRequestUrl"] = f"{url}/discussions/{done['pull_request']}"
        return answer

    async def _add_ref(self, request: Request, repository: Repository, what: str, name: str) -> Response:
        asked = await request.json() if await request.body() else {}
        ref = f"refs/heads/{name}" if what == "branch" else f"refs/tags/{asked['tag']}"
        start = asked.get("startingPoint", "main") if what == "branch" else name
        with self.store.lock:
            repository = self.store.repository(repository.kind, repository.name)
            if ref in repository.refs:
                raise HubError(409, f"Reference already exists: {ref}")
            repository.refs[ref] = self.store.resolve(repository, start)
            self.store.save(repository)
        return JSONResponse({})

    def _info(self, repository: Repository, oid: str) -> dict:
        commit = self.store.commit(repository, oid)
        card = self._card(commit["tree"])
        return {
            "_id": git_oid(repository.name.encode())[:24],
            "id": repository.name,
            "author": repository.name.split("/")[0],
            "sha": oid,
            "lastModified": commit["date"],
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": card.get("tags") or [],
            "cardData": card,
            "siblings": [{"rfilename": path} for path in sorted(commit["tree"])],
            "sdk": card.get("sdk") or repository.sdk,
        }

    def _card(self, tree: dict) -> dict:
        if "README.md" not in tree:
            return {}
        found = FRONT_MATTER.match(self.store.blob(tree["README.md"].sha256).read_text())
        return json.loads(json.dumps(yaml.safe_load(found[1]), default=str)) if found else {}

    def _rows(self, repository: Repository, oid: str, folder: str, recursive: bool) -> list[dict]:
        rows = {}
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        for path, entry in self.store.commit(repository, oid)["tree"].items():
            if not path.startswith(prefix):
                continue
            below = path.removeprefix(prefix).split("/")
            for depth in range(1, len(below) if recursive else min(len(below), 2)):
                name = prefix + "/".join(below[:depth])
                rows[name] = {"type": "directory", "oid": git_oid(name.encode()), "size": 0, "path": name}
            if recursive or len(below) == 1:
                rows[path] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
                if entry.lfs:
                    size = len(pointer(entry.sha256, entry.size))
                    rows[path]["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": size}
        if folder and not rows:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound")
        return [rows[path] for path in sorted(rows)]

    # content

    def _signed(self, request: Request, sha256: str) -> str:
        """An address on another origin than the Hub's, as the real storage has: the token must not go there."""
        port = request.headers["host"].split(":")[1]
        return f"http://localhost:{port}/_storage/{sha256}?signature={self.signature}"

    async def _lfs_batch(self, request: Request, repository: Repository) -> Response:
        self._writer(request, repository.name.split("/")[0])
        objects = []
        for wanted in (await request.json())["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if not self.store.blob(wanted["oid"]).exists():
                verify = f"{request.url.scheme}://{request.headers['host']}/_storage/verify"
                upload = {"href": self._signed(request, wanted["oid"]), "header": {}}
                answer |= {
                    "authenticated": True,
                    "actions": {"upload": upload, "verify": {"href": verify, "header": {}}},
                }
            objects.append(answer)
        content = {"transfer": "basic", "objects": objects, "hash_algo": "sha256"}
        return JSONResponse(content, media_type="application/vnd.git-lfs+json")

    async def _storage(self, request: Request, sha256: str) -> Response:
        if request.query_params.get("signature") != self.signature or "authorization" in request.headers:
            raise HubError(403, "Only a signed address opens the storage, and no token is sent there")
        if request.method == "PUT":
            self.store.put_large(sha256, await request.body())
            return JSONResponse({})
        return FileResponse(self.store.blob(sha256), headers={"ETag": f'"{sha256}"'})

    def _file(self, request: Request, repository: Repository, revision: str, path: str) -> Response:
        oid = self.store.resolve(repository, revision)
        entry = self.store.commit(repository, oid)["tree"].get(path)
        if entry is None:
            raise HubError(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if entry.lfs:
            headers |= {"X-Linked-Size": str(entry.size), "X-Linked-Etag": f'"{entry.sha256}"'}
            return Response("", 302, headers={**headers, "Location": self._signed(request, entry.sha256)})
        headers |= {"ETag": f'"{entry.oid}"', "Content-Disposition": f"inline; filename*=UTF-8''{quote(path)}"}
        return FileResponse(self.store.blob(entry.sha256), headers=headers)


def _refs(repository: Repository) -> dict:
    def under(prefix: str) -> list[dict]:
        return [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
            for ref, oid in repository.refs.items()
            if ref.startswith(prefix)
        ]

    return {
        "branches": under("refs/heads/"),
        "converts": [],
        "tags": under("refs/tags/"),
        "pullRequests": under("refs/pr/"),
    }


def _discussions(repository: Repository, query: QueryParams) -> dict:
    """Pull requests in pages of one, so that a client must turn them."""
    rows = [
        {"title": each["title"], "num": number, "author": {"name": each["author"]}, "createdAt": each["createdAt"]}
        | {"status": each["status"], "isPullRequest": True, "repo": {"name": repository.name, "type": repository.kind}}
        for number, each in enumerate(repository.pull_requests, start=1)
        if query.get("author", each["author"]) == each["author"]
        and query.get("status", "all") in ("all", each["status"])
    ]
    start = int(query.get("p", 0))
    return {"discussions": rows[start : start + 1], "start": start, "count": len(rows)}


def _commit_row(commit: dict) -> dict:
    row = {key: commit[key] for key in ("title", "message", "date")}
    return row | {"id": commit["oid"], "authors": [{"user": commit["author"]}]}


def _validated(card: str) -> Response:
    found, errors, warnings = FRONT_MATTER.match(card), [], []
    if found is None:
        warnings.append({"message": "empty or missing yaml metadata in repo card"})
    else:
        try:
            data = yaml.safe_load(found[1])
            if not isinstance(data, dict) or not isinstance(data.get("license", ""), str):
                errors.append({"message": '"license" must be a string'})
        except yaml.YAMLError as error:
            errors.append({"message": f"YAML Metadata Error: {error}"})
    return JSONResponse({"errors": errors, "warnings": warnings}, 400 if errors else 200)


class RunningHub:
    """The Hub on a thread of this process and a port of its own, from `start` to `stop`."""

    def __init__(self, root: Path):
        self.app, self.socket = LoopbackHub(root), socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        config = uvicorn.Config(self.app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def start(self) -> None:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(5)
