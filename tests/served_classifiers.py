"""Servers on free ports: ``sentikit serve`` in a process, or an application in a thread."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run `sentikit serve` and yield its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sentikit", "serve", *arguments, "--port", "0", "--threads", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stderr is not None
    try:
        errors = ""
        for line in process.stderr:
            errors += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+) serves", line):
                yield int(found[1]), process
                break
        else:
            raise AssertionError(errors)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@contextmanager
def application_served(app: Any, seconds: int | None = None) -> Iterator[int]:
    """Serve an application in a thread and yield its port; requests get `seconds` to finish."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=seconds)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def ask(port: int, text: str) -> socket.socket:
    """Send a text in a connection of its own and return it without waiting for the answer."""
    body = json.dumps({"inputs": text}).encode()
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(
        b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body) + body
    )
    return client


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
