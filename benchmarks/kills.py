"""Killing an LLM run 20 times at random moments and resuming it: requests paid twice.

A run of 2,000 rows against a local server is killed (SIGKILL) at random moments and resumed until
it is finished; then its files are compared with those of an undisturbed run.

    python benchmarks/kills.py [--rows 2000] [--kills 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from llm_fixtures import RunningServer, serving

IN_FLIGHT = 16
#: Calls that probe the server, made once.
PROBES = 2
WORDS = ("love", "hate", "read")
LABELS = ("positive", "negative", "neutral")


@dataclass(frozen=True)
class Outcome:
    """The result of the kills.

    Attributes:
        kills: processes killed.
        questions: different requests.
        answered: answers the server gave.
        answered_again: answers to a request that was answered before.
        lost: calls in flight at the kills: answered but not in the journal.
        most_lost: the most at one kill.
        equal: whether the files equal those of an undisturbed run.
    """

    kills: int
    questions: int
    answered: int
    answered_again: int
    lost: int
    most_lost: int
    equal: bool


def write_reviews(path: Path, rows: int) -> None:
    """Write a test split; every hundredth row repeats the one before."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "source"])
        for row in range(rows):
            number = row - 1 if row % 100 == 99 else row
            text = f"I {WORDS[number % 3]} thing number {number}"
            writer.writerow([text, LABELS[number % 3], "ab"[row % 2]])


def write_recipe(path: Path, reviews: Path, url: str) -> None:
    """Write the recipe; some answers are invalid, some rows are refused."""
    recipe = {
        "kind": "prompt",
        "dataset": {"name": "files", "test": str(reviews)},
        "llm": {
            "backend": "openai",
            "model": "any",
            "base_url": url,
            "in_flight": IN_FLIGHT,
            "prices": {"prompt": 1, "completion": 1},
        },
    }
    path.write_text(json.dumps(recipe))


def start(recipe: Path, output: Path, resume: bool) -> subprocess.Popen[bytes]:
    """Start ``sentikit prompt`` as a process."""
    command = [sys.executable, "-m", "sentikit", "prompt", "--recipe", str(recipe)]
    command += ["--output", str(output), "--max-cost", "10"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--resume"] if resume else command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process to succeed."""
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"the run failed ({process.returncode}): {errors.decode()}")


def kill_at(process: subprocess.Popen[bytes], s: RunningServer, answers: int) -> None:
    """Kill the process after a number of answers."""
    while sum(s.server.answered.values()) < answers and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # The server still answers requests whose client is gone.
    while s.server.in_flight:
        time.sleep(0.01)


def journalled(path: Path) -> int:
    """Return the number of answers in a journal."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM answers WHERE row >= 0").fetchone()[0])


def measure(rows: int, kills: int, seed: int) -> Outcome:
    """Run, kill, resume and compare."""
    source = random.Random(seed)  # noqa: S311 - moments
    moments = sorted(source.sample(range(1, rows - 20), kills))
    behaviour = {
        "seconds": 0.03,
        "fault_words": {"number 77": "say:Hm.", "number 5 ": "400", "number 1234": "400"},
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_reviews(place / "test.csv", rows)
        with serving(**behaviour) as s:
            write_recipe(place / "own.json.yaml", place / "test.csv", s.url)
            lost: list[int] = []
            killed = 0
            for moment in moments:
                begun = (place / "a" / "killed" / "manifest.json").exists()
                process = start(place / "own.json.yaml", place / "a" / "killed", resume=begun)
                kill_at(process, s, moment)
                killed += process.returncode == -signal.SIGKILL
                known = journalled(place / "a" / "answers.sqlite")
                lost.append(len(s.server.answered) - PROBES - known)
            finish(start(place / "own.json.yaml", place / "a" / "killed", resume=True))
            answered = dict(s.server.answered)
            s.server.answered.clear()
            finish(start(place / "own.json.yaml", place / "b" / "whole", resume=False))
            questions = len(s.server.answered)
        equal = all(
            (place / "a" / "killed" / name).read_bytes()
            == (place / "b" / "whole" / name).read_bytes()
            for name in ("predictions.jsonl", "metrics.json", "recipe.yaml")
        )
        equal = equal and costs(place / "a" / "killed") == costs(place / "b" / "whole")
    again = sum(count - 1 for count in answered.values())
    return Outcome(killed, questions, sum(answered.values()), again, sum(lost), max(lost), equal)


def costs(run: Path) -> tuple[object, ...]:
    """Return a manifest's costs and numbers of answers."""
    manifest = json.loads((run / "manifest.json").read_text())
    keys = ("rows", "invalid", "failed", "repaired", "usage", "cost_usd", "paid_usd", "saved_usd")
    return tuple(manifest[key] for key in keys)


def main() -> None:
    """Measure and print; exit with 1 if answers were paid twice or files differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = measure(options.rows, options.kills, options.seed)
    print(
        f"{found.kills} kills over {options.rows:,} rows: {found.questions:,} different requests, "
        f"{found.answered:,} answers given, {found.answered_again} of them again; "
        f"{found.lost} calls were in flight at the kills, {found.most_lost} at most at one. "
        f"Final files equal: {found.equal}"
    )
    sys.exit(not (found.equal and found.answered_again <= found.lost))


if __name__ == "__main__":
    main()
