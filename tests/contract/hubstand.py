"""A hub of one's own on the loopback: the few answers that huggingface_hub asks for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

LFS = (".safetensors", ".bin", ".pt")


@dataclass
class Stand:
    """Repositories by name, each a folder at one commit, and how they misbehave.

    `gated` and `secret` ask for `token`, the first after saying that there is a licence.
    `cut`: files whose first download breaks off half way. `lies`: files that are listed and
    are not there. `asked`: every request so far.
    """

    repositories: dict[str, Path]
    commit: str = "a" * 40
    branches: tuple[str, ...] = ("main",)
    gated: frozenset[str] = frozenset()
    secret: frozenset[str] = frozenset()
    token: str = "hf_good"
    status: int = 0
    cut: set[str] = field(default_factory=set)
    lies: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""

    def sent(self) -> list[str]:
        """The files that were sent, in the order they were asked for."""
        gets = (line for line in self.asked if line.startswith("GET") and "/resolve/" in line)
        return [line.split("/resolve/")[1].split("/", 1)[1] for line in gets]


@contextmanager
def standing(stand: Stand) -> Iterator[Stand]:
    """Let a stand answer on a free port while the block runs."""

    class Handler(Answer):
        hub = stand

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stand.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stand
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Answer(BaseHTTPRequestHandler):
    """Answers as https://huggingface.co/docs/hub/api says, for models alone."""

    protocol_version = "HTTP/1.1"
    hub: Stand

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub = self.hub
        hub.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        path = self.path.partition("?")[0]
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?/?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        name, revision = (api[1], api[3]) if api else (file[1], file[2]) if file else ("", "")
        granted = self.headers.get("Authorization") == f"Bearer {hub.token}"
        if hub.status:
            self.refuse(hub.status, "")
        elif name not in hub.repositories or (name in hub.secret and not granted):
            self.refuse(404 if granted else 401, "RepoNotFound")
        elif (revision or "main") not in (*hub.branches, hub.commit):
            self.refuse(404, "RevisionNotFound")
        elif name in hub.gated and not granted and (file or api[2] == "tree"):
            self.refuse(403, "GatedRepo")
        elif api:
            self.tell(name, tree=api[2] == "tree")
        else:
            self.send_file(hub.repositories[name], file[3])

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def tell(self, name: str, *, tree: bool) -> None:
        folder = self.hub.repositories[name]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listed: Any = [entry(path, path.relative_to(folder).as_posix()) for path in files]
        lie = {"type": "file", "size": 2, "oid": "b" * 40}
        listed += [{**lie, "path": path} for path in self.hub.lies]
        if not tree:
            siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files]
            listed = {"id": name, "modelId": name, "sha": self.hub.commit, "siblings": siblings}
        body = json.dumps(listed).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_file(self, folder: Path, name: str) -> None:
        data = (folder / name).read_bytes()
        first = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{digest(name, data)}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET" and name in self.hub.cut:
            self.hub.cut.discard(name)
            self.wfile.write(data[first : len(data) // 2])
            self.close_connection = True
        elif self.command == "GET":
            self.wfile.write(data[first:])


def entry(path: Path, name: str) -> dict[str, object]:
    """A file as the tree of a repository lists it."""
    data = path.read_bytes()
    listed: dict[str, object] = {
        "type": "file", "path": name, "size": len(data), "oid": git_digest(data),
    }  # fmt: skip
    if name.endswith(LFS):
        listed["lfs"] = {"oid": digest(name, data), "size": len(data), "pointerSize": 134}
    return listed


def digest(name: str, data: bytes) -> str:
    """What names a file's content: SHA-256 if it is large, git's SHA-1 otherwise."""
    return hashlib.sha256(data).hexdigest() if name.endswith(LFS) else git_digest(data)


def git_digest(data: bytes) -> str:
    """The SHA-1 by which git names a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
