"""`sentikit serve` under malformed requests."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from served_classifiers import served

pytest.importorskip("fastapi")

pytestmark = pytest.mark.slow

SEED, EXAMPLES = 7, 50
MALFORMED = int(os.environ.get("SENTIKIT_MALFORMED_REQUESTS", "10000"))


def test_schemathesis_finds_no_error_in_the_servers_openapi(trained_run: Path) -> None:
    pytest.importorskip("schemathesis")
    with served(str(trained_run)) as (port, _):
        command = [str(Path(sys.executable).with_name("st")), "run"]
        command += [f"http://127.0.0.1:{port}/openapi.json", "--checks", "all", "--no-color"]
        command += ["--seed", str(SEED), "--max-examples", str(EXAMPLES)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:]


def malformed(draw: random.Random) -> bytes:
    """Return the bytes of a request that is wrong in one way or several."""
    bodies = [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"inputs": NaN}',
        b'{"inputs": [[1]]}',
        b'{"inputs": {"a": "b"}}',
        b'{"inputs": "caf\xe9"}',
        b'{"inputs": "\\ud83d"}',
        b'{"inputs": [["a"], "b"]}',
        b'{"inputs": "a", "raw_scores": "maybe"}',
        b'{"inputs": ' + b"[" * draw.randrange(1, 3000),
        '{"inputs": "a"}'.encode("utf-16"),
        json.dumps({"inputs": [["a"]] * 1100}).encode(),
        json.dumps({"inputs": " " * draw.randrange(0, 99)}).encode(),
        draw.randbytes(draw.randrange(0, 200)),
    ]
    valid = bytearray(b'{"inputs": [["I love it"]], "truncate": true, "raw_scores": false}')
    for _ in range(draw.randrange(1, 6)):
        valid[draw.randrange(len(valid))] = draw.randrange(256)
    body = draw.choice([*bodies, bytes(valid), bytes(valid)])
    method = draw.choice(["POST"] * 6 + ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "X"])
    path = draw.choice(["/predict"] * 5 + ["/", "/info", "/metrics", "/%00", "/predict?a=%ff"])
    kind = draw.choice(["application/json"] * 6 + ["text/plain", "", "application/json; charset=x"])
    length = draw.choice([len(body)] * 9 + [max(0, len(body) - 3)])
    odd = draw.choice(["", "", "", "X-Odd: \x7f\r\n", "Expect: 100-continue\r\n", "Range: x\r\n"])
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n{odd}"
    head += f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    return head.encode("latin-1") + body


def status_of(port: int, request: bytes) -> int:
    """Send bytes and return the status, 0 where the server closes without a word."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionError:
            pass
    last = re.findall(rb"HTTP/1\.1 (\d{3})", answer)
    return int(last[-1]) if last else 0


def test_no_malformed_request_is_answered_500_or_stops_the_server(trained_run: Path) -> None:
    draw = random.Random(SEED)
    found: Counter[int] = Counter()
    with served(str(trained_run)) as (port, process):
        for _ in range(MALFORMED):
            request = malformed(draw)
            status = status_of(port, request)
            assert status < 500, request[:300]
            found[status] += 1
        assert process.poll() is None
        body = b'{"inputs": "I love it"}'
        head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        assert status_of(port, head.encode() + body) == 200
    assert {400, 405, 415, 422} <= set(found)
