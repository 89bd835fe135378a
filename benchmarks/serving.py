"""Throughput of `sentikit serve` against the classifier in-process and an unbatched handler.

Usage: python benchmarks/serving.py [--clients 32] [--seconds 10] [--model X]

Every arm labels the same texts, one a request, over MiniLM with a fresh head (weights do not
matter to speed). The unbatched handler is FastAPI over the same classifier, a call a request.
Prints requests per second, ratios and latencies of the server at the given number of clients.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
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
    """Return real texts where they are, made-up ones of like length elsewhere."""
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


def measured(command: list[str], texts: list[str], clients: int, seconds: float) -> list[float]:
    """Start a server, warm it up, load it, stop it."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    port = None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:(\d+) serves", line):
            port = int(found[1])
            break
    assert port is not None, "the server did not start"
    threading.Thread(target=process.stderr.read, daemon=True).start()
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    try:
        loaded(port, texts, 1, 0.5)
        return loaded(port, texts, clients, seconds)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Run the three arms and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--model", required=True, help="a run or a model folder")
    options = parser.parse_args()
    texts = texts_of(TEXTS)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "unbatched.py"
        script.write_text(UNBATCHED)
        alone = in_process(options.model, texts, options.seconds)
        python = [sys.executable]
        arms = {
            "sentikit serve": [*python, "-m", "sentikit", "serve", options.model, "--port", "0"],
            "unbatched FastAPI": [*python, str(script), options.model, "8917"],
        }
        print(f"in-process  {alone:.0f} texts/s")
        for name, command in arms.items():
            latencies = measured(command, texts, options.clients, options.seconds)
            rate = len(latencies) / options.seconds
            p50, p99 = (latencies[int(q * len(latencies))] * 1000 for q in (0.5, 0.99))
            print(
                f"{name}  {rate:.0f} requests/s = {rate / alone:.2f} of in-process, "
                f"p50 {p50:.0f} ms, p99 {p99:.0f} ms at {options.clients} clients"
            )


if __name__ == "__main__":
    main()
