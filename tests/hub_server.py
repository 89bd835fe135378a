"""A stand-in for the Hugging Face hub: real HTTP on 127.0.0.1, small repositories from memory.

It speaks the part of the hub's API that huggingface_hub and datasets call (observed with
huggingface_hub 2.4 and datasets 5.2; https://huggingface.co/docs/hub/api): repository info, file
tree, paths-info, and resolve with HEAD and GET, with the hub's error codes. Programs reach it by
the environment variable HF_ENDPOINT, which those libraries read when they are imported, so the
checked code runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

PARQUET_REVISION = "refs/convert/parquet"


@dataclass(frozen=True)
class Repository:
    """A repository of a dataset or a model.

    Attributes:
        revisions: file contents by path, by revision name.
        gated: whether the hub refuses its files to strangers.
    """

    revisions: Mapping[str, Mapping[str, bytes]]
    gated: bool = False

    def commit(self, revision: str) -> str | None:
        """Return the commit hash behind a revision name (or hash), None if there is none."""
        commits = {self._hash(files): name for name, files in self.revisions.items()}
        if revision in commits:
            return revision
        return self._hash(self.revisions[revision]) if revision in self.revisions else None

    def files(self, revision: str) -> Mapping[str, bytes]:
        """Return the files of a revision (name or hash)."""
        for name, files in self.revisions.items():
            if revision in (name, self._hash(files)):
                return files
        return {}

    def _hash(self, files: Mapping[str, bytes]) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for path, content in sorted(files.items()):
            digest.update(path.encode() + b"\0" + content)
        return digest.hexdigest()


@dataclass
class HubServer:
    """The running stand-in.

    Attributes:
        repositories: by id, as ``owner/name``; may be changed while it runs.
        broken: when set, every request is answered with this HTTP status.
        requests: method and path of every request so far.
    """

    repositories: dict[str, Repository]
    endpoint: str = ""
    broken: int | None = None
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serve(repositories: Mapping[str, Repository], port: int = 0) -> Iterator[HubServer]:
    """Serve `repositories` until the block ends, at any free port by default."""
    hub = HubServer(dict(repositories))

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.hub.requests.append(f"{self.command} {self.path}")
        if self.hub.broken:
            self._send(self.hub.broken, b"{}")
            return
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[0] == "api" and parts[1:2] in (["datasets"], ["models"]) and len(parts) >= 4:
            self._answer_api("/".join(parts[2:4]), parts[4:], body)
        elif "resolve" in parts:
            at, begin = parts.index("resolve"), int(parts[0] == "datasets")
            self._answer_file("/".join(parts[begin:at]), parts[at + 1], "/".join(parts[at + 2 :]))
        else:
            self._refuse(404, "RepoNotFound", "Repository not found")

    def _answer_api(self, name: str, rest: list[str], body: bytes) -> None:
        verb = rest[0] if rest else "revision"
        revision = rest[1] if len(rest) > 1 else "main"
        repository = self._repository(name, revision, check_gate=False)
        if repository is None:
            return
        commit, files = repository.commit(revision), repository.files(revision)
        if verb == "revision":
            siblings = [{"rfilename": path} for path in files]
            self._send_json({"id": name, "sha": commit, "private": False, "siblings": siblings})
        elif verb == "tree":
            folder = "/".join(rest[2:])
            recursive = "recursive=true" in urlsplit(self.path).query.lower()
            entries = _entries(files, folder, recursive)
            if folder and not entries:
                self._refuse(404, "EntryNotFound", f"{folder} does not exist")
            else:
                self._send_json(entries)
        elif verb == "paths-info":
            wanted = _wanted_paths(body, self.headers.get("Content-Type") or "")
            known = {entry["path"]: entry for entry in _entries(files, "", recursive=True)}
            self._send_json([known[path] for path in wanted if path in known])
        else:
            self._refuse(404, "EntryNotFound", "no such endpoint")

    def _answer_file(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision, check_gate=True)
        if repository is None:
            return
        commit = repository.commit(revision) or ""
        files = repository.files(revision)
        if path not in files:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        content, status, headers = files[path], 200, {}
        wanted = self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last) if last else len(content) - 1, len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
            content, status = content[int(first) : end + 1], 206
        headers |= {"X-Repo-Commit": commit, "ETag": f'"{_blob_id(files[path])}"'}
        self._send(status, content, headers | {"Accept-Ranges": "bytes"})

    def _repository(self, name: str, revision: str, check_gate: bool) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            # The hub answers 401 where a repository is unknown and nobody is logged in.
            self._refuse(401, "RepoNotFound", "Repository not found")
        elif repository.gated and check_gate:
            self._refuse(401, "GatedRepo", "Access to this repository is restricted.")
        elif repository.commit(revision) is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repository
        return None

    def _refuse(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        named = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
        self._send(status, json.dumps({"error": message}).encode(), named)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(files: Mapping[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """List files and folders below `folder` as the hub's tree endpoint does."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        if not path.startswith(prefix):
            continue
        steps = path.removeprefix(prefix).split("/")
        for depth in range(1, len(steps)):
            if recursive or depth == 1:
                inner = prefix + "/".join(steps[:depth])
                entries[inner] = {"type": "directory", "path": inner, "size": 0, "oid": "0" * 40}
        if recursive or len(steps) == 1:
            blob = _blob_id(content)
            entries[path] = {"type": "file", "path": path, "size": len(content), "oid": blob}
    return list(entries.values())


def _wanted_paths(body: bytes, content_type: str) -> list[str]:
    if "json" in content_type:
        paths = json.loads(body)["paths"]
        return [paths] if isinstance(paths, str) else list(paths)
    return parse_qs(body.decode()).get("paths", [])


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


_LOADER = """
import json, sys
import sentikit

for line in sys.stdin:
    section, split, labelled = json.loads(line)
    try:
        dataset = sentikit.open_dataset(section)
        answer = {"splits": dataset.splits}
        if split:
            examples = dataset.split(split, labelled)
            columns = (examples.texts, examples.labels, examples.sources, examples.ids)
            answer["rows"] = list(zip(*columns))
    except sentikit.SentikitError as error:
        answer = {"error": error.message, "exit_code": error.exit_code}
    print(json.dumps(answer), flush=True)
"""


class LoadingProcess:
    """A process that opens datasets with HF_ENDPOINT set to the stand-in.

    Use it in a ``with`` statement.
    """

    def __init__(self, hub: HubServer, cache: Path, **environment: str) -> None:
        self._errors = cache.with_name(f"{cache.name}-errors.txt")
        self._environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(cache),
            **environment,
        }

    def __enter__(self) -> Self:
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", _LOADER],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    @property
    def errors(self) -> str:
        """What the process has written to standard error so far."""
        return self._errors.read_text()

    def splits(self, **section: Any) -> list[str]:
        """Return a dataset's splits."""
        return list(self._ask(section, None)["splits"])

    def rows(self, split: str, *, labelled: bool = True, **section: Any) -> list[list[Any]]:
        """Return text, label, source and id of each example of a split."""
        answer = self._ask(section, split, labelled)
        assert "rows" in answer, answer
        return list(answer["rows"])

    def refusal(self, split: str | None = "train", **section: Any) -> tuple[str, int]:
        """Return the message and the exit code with which a dataset is refused."""
        answer = self._ask(section, split)
        assert "error" in answer, "nothing was refused"
        return answer["error"], answer["exit_code"]

    def _ask(self, section: Any, split: str | None, labelled: bool = True) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([section, split, labelled]) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of a folder's files by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
