"""Throughput of `sentikit serve` against the classifier in-process and an unbatched handler.

Usage: python benchmarks/serving.py --model X [--clients 32] [--seconds 10] [--rounds 3]

Every arm labels the same texts, one per request, with MiniLM and a new head (weights do not affect
speed). The unbatched handler is FastAPI with the same classifier, one call per request. The arms
alternate; medians and ratios of the rounds are printed. On a busy machine, CPU time per request is
more reliable than the rates.
"""

from __future__ import annotations

import argparse
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
from http.client import HTTPConnection
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


def in_process(model: str, texts: list[str], seconds: float) -> float:
    """Return texts per second of `predict` over all texts in this process."""
    import sentikit

    classifier = sentikit.load(model)
    classifier.predict(texts[:256])
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        classifier.predict(texts[:2048])
        done += len(texts[:2048])
    return done / (time.perf_counter() - began)


def loaded(port: int, texts: list[str], clients: int, seconds: float) -> list[float]:
    """Return the latency of every request that `clients` send in `seconds`."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = HTTPConnection("127.0.0.1", port)
        chance = random.Random(number)  # noqa: S311 - which text next
        while (began := time.perf_counter()) < end:
            body = json.dumps({"inputs": chance.choice(texts)})
            connection.request("POST", "/predict", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            latencies[number].append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(latency for own in latencies for latency in own)


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
        own: list[float] = []
        for server in (served, unbatched):
            loaded(server.port, texts, options.clients, 1)
        for _ in range(options.rounds):
            own.append(in_process(options.model, texts, options.seconds))
            for server in (served, unbatched):
                server.measure(texts, options.clients, options.seconds)
    print(f"in-process         {statistics.median(own):.0f} texts/s")
    for name, server in (("sentikit serve", served), ("unbatched FastAPI", unbatched)):
        ordered = sorted(server.latencies)
        p50, p99 = (ordered[int(q * len(ordered))] * 1000 for q in (0.5, 0.99))
        print(
            f"{name:17}  {statistics.median(server.rates):.0f} requests/s, "
            f"{statistics.median(server.processor_ms):.2f} ms of CPU a request, "
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms at {options.clients} clients"
        )
    pairs = list(zip(served.rates, own, unbatched.rates, strict=True))
    shares, times = [a / b for a, b, _ in pairs], [a / c for a, _, c in pairs]
    spent = [a / b for a, b in zip(unbatched.processor_ms, served.processor_ms, strict=True)]
    print(
        f"serve by pairs: {statistics.median(shares):.2f} of in-process ({shown(shares)}), "
        f"{statistics.median(times):.2f} times the unbatched rate ({shown(times)}), which takes "
        f"{statistics.median(spent):.2f} times the CPU ({shown(spent)})"
    )


def shown(ratios: list[float]) -> str:
    """Return the range of ratios."""
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


if __name__ == "__main__":
    main()
