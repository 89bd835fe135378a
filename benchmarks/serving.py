"""Throughput of `sentikit serve` against the classifier in-process and an unbatched handler.

Usage: python benchmarks/serving.py --model X [--clients 32] [--seconds 10] [--rounds 3]

Every arm labels the same texts, the servers one per request. In-process, `predict` is called with
2,048 texts, which it sorts by length, and with as many as there are clients, which is all that a
server has at a time. The unbatched handler is FastAPI with the same classifier, one call per
request. The arms alternate; medians and ratios of the rounds are printed. On a busy machine, CPU
time per request is more reliable than the rates.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

UNBATCHED = """
import sys, uvicorn, sentikit
from fastapi import FastAPI
from pydantic import BaseModel

classifier = sentikit.load(sys.argv[1])
app = FastAPI()

class Body(BaseModel):
    inputs: str

@app.post("/predict")
def predict(body: Body):
    (row,) = classifier.classify([body.inputs])
    return [{"label": k, "score": v} for k, v in row.probabilities.items()]

print("http://127.0.0.1:%s serves" % sys.argv[2], file=sys.stderr, flush=True)
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""
#: The study's files: a folder named by SENTIKIT_STUDY_DATA, or ./data.
TEXTS = Path(os.environ.get("SENTIKIT_STUDY_DATA", "data")) / "merged" / "test.csv"


def texts_of(path: Path) -> list[str]:
    """Return real texts if available, else synthetic ones of similar length."""
    if path.is_file():
        import csv

        with path.open(newline="") as stream:
            return [row["sentence"] for row in csv.DictReader(stream)]
    words = "the food was good and we came back for more of it every single week".split()
    chance = random.Random(1)  # noqa: S311 - made-up texts
    return [" ".join(chance.choices(words, k=chance.randint(4, 40))) for _ in range(6000)]


def in_process(model: str, texts: list[str], seconds: float, at_once: int) -> tuple[float, float]:
    """Return texts per second of `predict` in this process, and milliseconds of CPU a text."""
    import sentikit

    classifier = sentikit.load(model)
    classifier.predict(texts[:256])
    began, used, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        start = done % (len(texts) - at_once)
        classifier.predict(texts[start : start + at_once])
        done += at_once
    passed = time.perf_counter() - began
    return done / passed, (time.process_time() - used) / done * 1000


class Client(asyncio.Protocol):
    """One connection that asks about one text after the other.

    It parses no more than the length of an answer: the clients share the cores with the server.
    """

    def __init__(self, bodies: Iterator[bytes], latencies: list[float]) -> None:
        self._bodies, self._latencies, self._received = bodies, latencies, b""
        self._transport: asyncio.Transport | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if not blank or (length and len(body) < int(length[1])):
            return
        assert length, self._received
        assert head.startswith(b"HTTP/1.1 200"), self._received
        self._latencies.append(time.perf_counter() - self._began)
        self._received = b""
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))

    def _ask(self) -> None:
        assert self._transport is not None
        body = next(self._bodies, None)
        if body is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._began = time.perf_counter()
        head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        self._transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)


def loaded(port: int, texts: list[str], clients: int, seconds: float) -> list[float]:
    """Return the latency of every request that `clients` send in `seconds`."""
    latencies: list[float] = []

    def bodies(number: int) -> Iterator[bytes]:
        chance = random.Random(number)  # noqa: S311 - which text next
        while time.perf_counter() < end:
            yield json.dumps({"inputs": chance.choice(texts)}).encode()

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        made = [
            (await loop.create_connection(partial(Client, bodies(n), latencies), "127.0.0.1", port))
            for n in range(clients)
        ]
        await asyncio.gather(*(client.done for _, client in made))

    end = time.perf_counter() + seconds
    asyncio.run(ask())
    return sorted(latencies)


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[Server]:
    """Start a server and wait until it answers."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            port = next(
                int(found[1])
                for line in process.stderr
                if (found := re.search(r"http://127\.0\.0\.1:(\d+) serves", line))
            )
            threading.Thread(target=process.stderr.read, daemon=True).start()
            for _ in range(100):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.1)
            yield Server(process.pid, port)
        finally:
            process.terminate()


@dataclass
class Server:
    """A running server and its measurements."""

    process: int
    port: int
    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)

    def measure(self, texts: list[str], clients: int, seconds: float) -> None:
        """Measure rate, latencies and CPU time per request once."""
        before = self.processor_seconds()
        latencies = loaded(self.port, texts, clients, seconds)
        self.latencies += latencies
        self.rates.append(len(latencies) / seconds)
        self.processor_ms.append((self.processor_seconds() - before) / len(latencies) * 1000)

    def processor_seconds(self) -> float:
        """Return the server's CPU seconds so far."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the arms alternately and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", required=True, help="a run or a model folder")
    options = parser.parse_args()
    texts = texts_of(TEXTS)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        script = Path(folder) / "unbatched.py"
        script.write_text(UNBATCHED)
        python = [sys.executable]
        served = stack.enter_context(
            started([*python, "-m", "sentikit", "serve", options.model, "--port", "0"])
        )
        unbatched = stack.enter_context(started([*python, str(script), options.model, "8917"]))
        windows, few = list[tuple[float, float]](), list[tuple[float, float]]()
        for server in (served, unbatched):
            loaded(server.port, texts, options.clients, 1)
        for _ in range(options.rounds):
            windows.append(in_process(options.model, texts, options.seconds, 2048))
            few.append(in_process(options.model, texts, options.seconds, options.clients))
            for server in (served, unbatched):
                server.measure(texts, options.clients, options.seconds)
    for name, arm in ((2048, windows), (options.clients, few)):
        rate, cost = (statistics.median(values) for values in zip(*arm, strict=True))
        print(f"in-process, {name} texts a call: {rate:.0f} texts/s, {cost:.2f} ms of CPU a text")
    for name, server in (("sentikit serve", served), ("unbatched FastAPI", unbatched)):
        ordered = sorted(server.latencies)
        p50, p99 = (ordered[int(q * len(ordered))] * 1000 for q in (0.5, 0.99))
        print(
            f"{name:17}  {statistics.median(server.rates):.0f} requests/s, "
            f"{statistics.median(server.processor_ms):.2f} ms of CPU a request, "
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms at {options.clients} clients"
        )
    spent = [a / b for a, b in zip(unbatched.processor_ms, served.processor_ms, strict=True)]
    for name, others in (
        (f"of in-process with {options.clients} texts a call", [rate for rate, _ in few]),
        ("of in-process with 2048 texts a call", [rate for rate, _ in windows]),
        ("times the unbatched rate", unbatched.rates),
    ):
        ratios = [a / b for a, b in zip(served.rates, others, strict=True)]
        print(f"serve by pairs: {statistics.median(ratios):.2f} {name} ({shown(ratios)})")
    print(f"unbatched: {statistics.median(spent):.2f} times the CPU a request ({shown(spent)})")


def shown(ratios: list[float]) -> str:
    """Return the range of ratios."""
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


if __name__ == "__main__":
    main()
