"""A stand-in for the Hub on this machine: real HTTP, spoken to by the real huggingface_hub.

    with HubServer() as hub:
        hub.add("owner/name", {"config.json": b"{}", "model.safetensors": weights})
        ...HF_ENDPOINT=hub.url...
        assert hub.fetched == ["config.json"]

It misbehaves on request: see the fields of :class:`HubServer`. The pytest fixture ``hub`` also keeps the caches, tokens
and variables of the test away from those of the user; import it into a test file to use it.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

LFS = (".safetensors", ".bin")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_name(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> files
    refs: dict[str, str] = field(default_factory=dict)  # branch or tag -> commit
    gated: bool = False
    private: bool = False


@dataclass
class HubServer:
    """Serves models. The fields below ``repos`` make it misbehave; ``requests`` is what it was asked."""

    repos: dict[str, Repo] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {"hf_good"})
    drop_after: int | None = None  # close the line after so many bytes of a body...
    drops: int = 0  # ...so many times
    reset: bool = False  # drop with a reset (RST) rather than a clean close
    corrupt: set[str] = field(default_factory=set)  # files to serve with one byte changed
    cut: dict[str, int] = field(default_factory=dict)  # files served whole, but shorter than the Hub lists them
    cut_body: dict[str, int] = field(default_factory=dict)  # the same, and HEAD tells the full length
    hidden: set[str] = field(default_factory=set)  # files that are listed and answer 404
    status: int | None = None  # answer everything with this status
    page: bytes | None = None  # answer everything with this page, like the login page of a hotel
    requests: list[tuple[str, str]] = field(default_factory=list)  # (method, path)
    ranges: list[str] = field(default_factory=list)  # what was asked for with Range
    tokens_seen: list[str | None] = field(default_factory=list)

    def __enter__(self) -> HubServer:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.lines = []
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Hang up, and listen no more: connections are refused from here on."""
        self._server.shutdown()
        self._server.server_close()
        for line in self._server.lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def fetched(self) -> list[str]:
        """The files that were asked for, sorted. (Of files with the same bytes the client downloads only one.)"""
        paths = [path for _, path in self.requests if "/resolve/" in path]
        return sorted({path.split("/resolve/")[1].split("/", 1)[1] for path in paths})

    def add(self, name: str, files: dict[str, bytes], *, branch: str = "main", **how: Any) -> str:
        """A new commit on ``branch`` of the model ``name``: returns the commit."""
        repo = self.repos.setdefault(name, Repo(**how))
        commit = hashlib.sha1(f"{name} {branch} {len(repo.commits)}".encode()).hexdigest()
        repo.commits[commit] = dict(files)
        repo.refs[branch] = commit
        return commit


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    lines: list[socket.socket]

    def get_request(self) -> tuple[socket.socket, Any]:
        line, address = super().get_request()
        self.lines.append(line)
        return line, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is not news."""


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def answer(self, *, head: bool) -> None:
        hub = self.hub
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        hub.tokens_seen.append(token)
        if hub.status is not None:
            return self.error(hub.status)
        if hub.page is not None:
            return self.send(hub.page, {"Content-Type": "text/html"})
        if token is not None and token not in hub.tokens:  # the Hub refuses a wrong token even for a public model
            return self.error(401, message="Invalid credentials in Authorization header")
        if match := re.fullmatch(r"/api/models/([^/]+(?:/[^/]+)?)(?:/(revision|tree)/(.+))?", path):
            name, route, revision, file = match[1], match[2] or "revision", match[3], None
        elif match := re.fullmatch(r"/((?:[^/]+/)?[^/]+)/resolve/([^/]+)/(.+)", path):
            name, route, revision, file = match[1], "resolve", match[2], match[3]
        else:
            return self.error(404)
        repo = hub.repos.get(name)
        if repo is None or (repo.private and token is None):
            return self.error(401 if token is None else 404, "RepoNotFound", "Repository not found")
        commit = repo.refs.get(revision or "main", revision or "")
        if commit not in repo.commits:
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repo.commits[commit]
        if route == "revision":
            siblings = [describe(name, data) | {"rfilename": name} for name, data in files.items()]
            info = {"id": name, "modelId": name, "sha": commit, "private": repo.private, "gated": repo.gated}
            return self.send_json(info | {"siblings": siblings, "tags": [], "downloads": 0})
        if route == "tree":
            return self.send_json([{"type": "file", "path": n, "size": len(d), "oid": git_name(d)} for n, d in files.items()])
        assert file is not None
        if repo.gated and token is None:
            return self.error(401, "GatedRepo", f"Access to model {name} is restricted.")
        if file not in files or file in hub.hidden:
            return self.error(404, "EntryNotFound", "Entry not found")
        return self.send_file(commit, file, files[file], head=head)

    def send_file(self, commit: str, name: str, data: bytes, *, head: bool) -> None:
        hub = self.hub
        etag = sha256(data) if name.endswith(LFS) else git_name(data)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if name in hub.corrupt:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        data = data[: (hub.cut if head else hub.cut | hub.cut_body).get(name, len(data))]
        status, total = 200, len(data)
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(match[1])
            self.hub.ranges.append(f"{name} from {start}")
            status, data = 206, data[start:]
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        self.send(data, headers, status, head=head)

    def send(self, data: bytes, headers: dict[str, str], status: int = 200, *, head: bool = False) -> None:
        hub = self.hub
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if head:
            return
        if hub.drops > 0 and hub.drop_after is not None and "ETag" in headers and len(data) > hub.drop_after:
            hub.drops -= 1
            self.wfile.write(data[: hub.drop_after])
            self.wfile.flush()
            self.close_connection = True
            if hub.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                socket.socket(fileno=self.connection.detach()).close()
            return
        self.wfile.write(data)

    def send_json(self, content: Any) -> None:
        self.send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def error(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        self.send(b"", headers | ({"X-Error-Message": message} if message else {}), status)


def describe(name: str, data: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {"size": len(data), "blobId": git_name(data)}
    if name.endswith(LFS):
        facts["blobId"] = git_name(b"pointer to " + sha256(data).encode())
        facts["lfs"] = {"size": len(data), "sha256": sha256(data), "pointerSize": 134}
    return facts


class Blackhole:
    """Takes connections, and never answers."""

    def __enter__(self) -> Blackhole:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def isolate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str | None = None) -> None:
    """Point the Hub's variables at ``tmp_path`` and ``endpoint``, and let no token of the user out.

    huggingface_hub reads its variables when it is imported; nativebert.hub reads cache, endpoint and offline mode at
    each call. Only the stored token and the shared HTTP client (which keeps proxies) must be changed in place.
    """
    import huggingface_hub
    from huggingface_hub import constants

    unset = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"]
    proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    for name in [*unset, "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", *proxies, *map(str.lower, proxies)]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf_home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf_home" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # it would ask the real Hub for a list of agents
    if endpoint is not None:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
    huggingface_hub.close_session()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A running stand-in, that ``HF_ENDPOINT`` points at, and an empty ``HF_HOME``."""
    import huggingface_hub

    with HubServer() as server:
        isolate(monkeypatch, tmp_path, server.url)
        yield server
    huggingface_hub.close_session()
