"""A stand-in for the upload half of the Hugging Face hub: real HTTP on 127.0.0.1.

It speaks what `HfApi.create_repo` and `HfApi.upload_folder` call (observed with huggingface_hub
2.4): repository creation, preupload and commit. Programs reach it by HF_ENDPOINT, which the library
reads when it is imported, so the checked code runs in a process of its own.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_writer"


@dataclass
class Uploads:
    """The received requests and files.

    Attributes:
        address: the value for HF_ENDPOINT.
        created: bodies of the requests for new repositories.
        files: contents by path, once committed.
    """

    address: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    uploads: Uploads

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self.uploads.created.append(json.loads(body))
            self._answer(200, {"url": f"{self.uploads.address}/jane/reviews"})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self._answer(200, {"files": [_mode(file) for file in json.loads(body)["files"]]})
        elif "/commit/" in self.path:
            self._commit(body)
        else:
            self._answer(404, {"error": f"POST {self.path} is not known here"})

    def do_GET(self) -> None:
        self._answer(404, {"error": "Entry not found"})

    def _commit(self, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.uploads.files[line["value"]["path"]] = content
        commit = f"{self.uploads.address}/jane/reviews/commit/{'0' * 40}"
        self._answer(200, {"commitUrl": commit, "commitOid": "0" * 40, "success": True})

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    return {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}


@contextlib.contextmanager
def upload_server() -> Iterator[Uploads]:
    """Run the stand-in for as long as the block lasts."""
    uploads = Uploads()
    handler = type("Handler", (_Handler,), {"uploads": uploads})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    uploads.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield uploads
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
