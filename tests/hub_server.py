"""A small Hub for tests: real HTTP on 127.0.0.1, spoken to by the real `huggingface_hub` clients 0.36 and 2.

Repositories live in memory: commits with whole trees, LFS objects apart, private repositories, tokens with and without
the right to write. `hub.requests` lists every request. `hub.fail_next["commit"] = 500` breaks the next one of its kind
(`"drop"` hangs up instead, `"lost"` does the work and then hangs up). `hub.escaped` lists what a client of `hub.env()`
tried to reach elsewhere.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

WRITER, READER = "hf_writer", "hf_reader"
LFS_SUFFIXES = (".safetensors", ".onnx", ".bin", ".parquet", ".png", ".jpg", ".zip")
DATE = "2026-01-31T12:00:00.000Z"

REPO = r"/(?P<prefix>datasets/)?(?P<id>[\w.-]+/[\w.-]+)"
API = r"/api/(?P<type>models|datasets)/(?P<id>[\w.-]+/[\w.-]+)"
ROUTES = [  # method, path, kind: the name of a method of Handler and a key of `fail_next`
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", r"/api/whoami-v2", "whoami"),
    ("GET", rf"{API}(/revision/(?P<rev>[^/]+))?", "info"),
    ("GET", rf"{API}/tree/(?P<rev>[^/]+)(/(?P<path>.+))?", "tree"),
    ("POST", rf"{API}/paths-info/(?P<rev>[^/]+)", "paths"),
    ("POST", rf"{API}/preupload/(?P<rev>[^/]+)", "preupload"),
    ("POST", rf"{API}/commit/(?P<rev>[^/]+)", "commit"),
    ("POST", rf"{REPO}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "put"),
    ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/verify", "verify"),
    ("GET|HEAD", rf"{REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
]


@dataclass
class Commit:
    oid: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repo:
    id: str
    private: bool = False
    commits: list[Commit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add("initial commit", {})

    @property
    def files(self) -> dict[str, bytes]:
        """The newest content, by path."""
        return self.commits[-1].files

    def add(self, message: str, files: dict[str, bytes]) -> Commit:
        seed = repr((self.id, len(self.commits), message, sorted(files.items()))).encode()
        self.commits.append(Commit(hashlib.sha1(seed).hexdigest(), message, files))
        return self.commits[-1]

    def commit(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit.oid == revision), None)


class HubServer(ThreadingHTTPServer):
    """Starts at once; use it in a `with` block, or the fixture `hub`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.users = {WRITER: ("someone", True), READER: ("someone", False)}
        self.fail_next: dict[str, int | str] = {}
        self.requests: list[tuple[str, str]] = []
        self.escaped: list[str] = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def server_close(self) -> None:
        self.shutdown()
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; an error of the server itself is answered with a 500."""

    def add_repo(self, repo_id: str, folder: Path, repo_type: str = "model", private: bool = False) -> Repo:
        """A repository with the files of a local folder."""
        repo = self.repos[repo_type, repo_id] = Repo(repo_id, private)
        repo.add("seed", {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
        return repo

    def env(self, home: Path, token: str | None = WRITER) -> dict[str, str]:
        """The environment of a client in a process of its own; anything it sends elsewhere ends in `escaped`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
        proxy = {"HTTP_PROXY": self.url, "HTTPS_PROXY": self.url, "NO_PROXY": "127.0.0.1"}
        return kept | own | proxy | ({"HF_TOKEN": token} if token else {})

    def connect(self, monkeypatch: pytest.MonkeyPatch, home: Path, token: str | None = WRITER) -> None:
        """Let `HfApi()` in this process talk to this server, for one test.

        Not for downloads: 0.36 fixes their address at import, so leave them to a process with `env()`.
        """
        from huggingface_hub import constants

        values = {"ENDPOINT": self.url, "HF_TOKEN_PATH": str(home / "token")}
        for name, value in (values | {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}).items():
            monkeypatch.setattr(constants, name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        if token:
            monkeypatch.setenv("HF_TOKEN", token)


class ProblemError(Exception):
    """An answer that is an error: status, message, and the code that the clients read."""

    def __init__(self, status: int, message: str, code: str = "", commit: str = "", body: dict[str, Any] | None = None):
        super().__init__(message)
        self.status, self.body = status, body or {"error": message}
        headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
        self.headers = {name: value for name, value in headers.items() if value}


class Handler(BaseHTTPRequestHandler):
    """One method per kind of request; each returns what `_answer` takes, or raises `ProblemError`."""

    protocol_version = "HTTP/1.1"
    server: HubServer
    answer_is_lost = False

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_CONNECT(self) -> None:
        self.server.escaped.append(self.path)
        self._answer(502, {"error": "nothing but this server can be reached"})

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        # Sent to us as a proxy; `datasets` also asks the host "datasets-server." + ours, which is a missing page here.
        if url.netloc and not f"http://{url.netloc}".endswith(self.server.url.removeprefix("http://")):
            return self.do_CONNECT()
        self.body = self._read()
        self.query = parse_qs(url.query)
        self.server.requests.append((self.command, url.path))
        try:
            for methods, pattern, kind in ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and self.command in methods.split("|"):
                    return self._serve(kind, {k: v and unquote(v) for k, v in match.groupdict().items()})
            raise ProblemError(404, f"no such page: {url.path}", "EntryNotFound")
        except ProblemError as problem:
            self._answer(problem.status, problem.body, problem.headers)
        except Exception as error:
            self._answer(500, {"error": f"{type(error).__name__} in the test server: {error}"})

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815

    def _serve(self, kind: str, names: dict[str, str | None]) -> None:
        with self.server.lock:
            failure = self.server.fail_next.pop(kind, None)
        self.answer_is_lost = failure == "lost"
        if failure == "drop":
            self.close_connection = True
            return
        if isinstance(failure, int):
            raise ProblemError(failure, f"broken on purpose: {kind}")
        self.user, self.may_write = self._who()
        given: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
        if "id" in given:
            is_dataset = "datasets" in (given.pop("type", ""), given.pop("prefix", "")[:-1])
            given["repo"] = self._repo("dataset" if is_dataset else "model", given.pop("id"))
        getattr(self, kind)(**given)

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        if self.answer_is_lost:
            self.close_connection = True
            return
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _who(self) -> tuple[str | None, bool]:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.server.users:
            raise ProblemError(401, "Invalid credentials in Authorization header")
        return self.server.users.get(token, (None, False))

    def _repo(self, repo_type: str, repo_id: str) -> Repo:
        repo = self.server.repos.get((repo_type, repo_id))
        if repo is None or (repo.private and repo_id.split("/")[0] != self.user):
            raise ProblemError(404 if self.user else 401, "Repository not found", "RepoNotFound")
        return repo

    def _commit(self, repo: Repo, rev: str) -> Commit:
        commit = repo.commit(rev)
        if commit is None:
            raise ProblemError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return commit

    def _need_write(self, owner: str) -> None:
        if self.user is None:
            raise ProblemError(401, "Invalid username or password.")
        if not self.may_write or owner != self.user:
            raise ProblemError(403, f"You don't have the rights to write to the namespace {owner!r}")

    def create(self) -> None:
        wanted = json.loads(self.body)
        owner = wanted.get("organization") or self.user or ""
        self._need_write(owner)
        key = wanted.get("type") or "model", f"{owner}/{wanted['name']}"
        body = {"url": f"{self.server.url}/{'datasets/' if key[0] == 'dataset' else ''}{key[1]}", "name": key[1]}
        if key in self.server.repos:
            raise ProblemError(
                409, "You already created this repo", body=body | {"error": "You already created this repo"}
            )
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.server.repos[key] = Repo(key[1], private)
        self._answer(200, body)

    def whoami(self) -> None:
        if self.user is None:
            raise ProblemError(401, "Invalid username or password.")
        role = "write" if self.may_write else "read"
        auth = {"type": "access_token", "accessToken": {"displayName": "tests", "role": role}}
        self._answer(200, {"type": "user", "name": self.user, "fullname": self.user, "orgs": [], "auth": auth})

    def validate(self) -> None:
        try:
            self._answer(200, {"errors": [], "warnings": [], "metadata": card_data(json.loads(self.body)["content"])})
        except yaml.YAMLError as error:
            raise ProblemError(
                400, "invalid card", body={"errors": [{"message": str(error)}], "warnings": []}
            ) from error

    def info(self, repo: Repo, rev: str = "main") -> None:
        commit = self._commit(repo, rev)
        card = card_data(commit.files.get("README.md", b"").decode())
        known = {"id": repo.id, "sha": commit.oid, "private": repo.private, "gated": False, "disabled": False}
        counts = {"downloads": 0, "likes": 0, "lastModified": DATE, "createdAt": DATE, "tags": card.get("tags", [])}
        shown = {name: card[name] for name in ("pipeline_tag", "library_name") if name in card}
        siblings = {"siblings": [{"rfilename": path} for path in sorted(commit.files)]}
        self._answer(200, known | counts | shown | siblings | {"cardData": card})

    def tree(self, repo: Repo, rev: str, path: str = "") -> None:
        commit = self._commit(repo, rev)
        inside = {p: data for p, data in commit.files.items() if not path or p.startswith(f"{path}/")}
        if path and not inside:
            raise ProblemError(404, f"{path} does not exist on {rev}", "EntryNotFound", commit.oid)
        entries: dict[str, dict[str, Any]] = {}
        start = len(path) + 1 if path else 0
        for name, data in sorted(inside.items()):
            parts = name[start:].split("/")
            for depth in range(1, len(parts)):
                folder = name[:start] + "/".join(parts[:depth])
                entries[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
            entries[name] = entry(name, data)
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("1", "true")
        self._answer(200, [e for p, e in entries.items() if recursive or "/" not in p[start:]])

    def paths(self, repo: Repo, rev: str) -> None:
        commit = self._commit(repo, rev)
        is_json = "json" in self.headers.get("Content-Type", "")
        wanted = json.loads(self.body)["paths"] if is_json else parse_qs(self.body.decode()).get("paths", [])
        self._answer(200, [entry(path, commit.files[path]) for path in wanted if path in commit.files])

    def preupload(self, repo: Repo, rev: str) -> None:
        self._need_write(repo.id.split("/")[0])
        present = self._commit(repo, rev).files
        answer = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            known = {"oid": content_oid(path, present[path])} if path in present else {}
            answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False} | known)
        self._answer(200, {"files": answer})

    def batch(self, repo: Repo) -> None:
        self._need_write(repo.id.split("/")[0])
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            link = f"{self.server.url}/lfs/{wanted['oid']}"
            actions = {"upload": {"href": link, "header": {}}, "verify": {"href": f"{link}/verify", "header": {}}}
            objects.append(wanted | ({} if wanted["oid"] in self.server.objects else {"actions": actions}))
        self._answer(200, {"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise ProblemError(400, "the content does not have the announced hash")
        self.server.objects[oid] = self.body
        self._answer(200)

    def verify(self, oid: str) -> None:
        wanted = json.loads(self.body)
        if len(self.server.objects.get(oid, b"")) != wanted["size"] or wanted["oid"] != oid:
            raise ProblemError(404, "this object was not uploaded")
        self._answer(200, {})

    def commit(self, repo: Repo, rev: str) -> None:
        self._need_write(repo.id.split("/")[0])
        lines = [json.loads(line) for line in self.body.splitlines()]
        with self.server.lock:
            files, message = dict(self._commit(repo, rev).files), ""
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    message = value["summary"]
                elif line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile" and value["oid"] in self.server.objects:
                    files[value["path"]] = self.server.objects[value["oid"]]
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
                else:
                    raise ProblemError(400, f"cannot commit {line['key']} {value.get('path')}")
            oid = repo.add(message, files).oid
        page = f"{self.server.url}{'/datasets' * self.path.startswith('/api/datasets')}/{repo.id}/commit/{oid}"
        self._answer(200, {"success": True, "commitOid": oid, "commitUrl": page})

    def resolve(self, repo: Repo, rev: str, path: str) -> None:
        commit = self._commit(repo, rev)
        if path not in commit.files:
            raise ProblemError(404, "Entry not found", "EntryNotFound", commit.oid)
        data = commit.files[path]
        oid = content_oid(path, data)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{oid}"', "Accept-Ranges": "bytes"}
        if path.endswith(LFS_SUFFIXES):  # the real Hub redirects to another host here
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{oid}"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self._answer(200, data, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        self._answer(206, data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})


def content_oid(path: str, data: bytes) -> str:
    """The hash by which Git (SHA-1 of the blob) or LFS (SHA-256) knows a file."""
    if path.endswith(LFS_SUFFIXES):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(path: str, data: bytes) -> dict[str, Any]:
    """A file as the tree and paths-info pages describe it."""
    oid = content_oid(path, data)
    lfs = {"lfs": {"oid": oid, "size": len(data), "pointerSize": 134}} if path.endswith(LFS_SUFFIXES) else {}
    return {"type": "file", "path": path, "oid": oid[:40], "size": len(data)} | lfs


def card_data(readme: str) -> dict[str, Any]:
    """The YAML between the dashes at the head of a README."""
    head = re.match(r"---\n(.*?)\n---", readme, re.DOTALL)
    return (yaml.safe_load(head[1]) or {}) if head else {}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server
