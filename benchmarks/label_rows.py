"""Time and memory of `label` with two recorded members, against classification alone.

    python benchmarks/label_rows.py [ROWS]...

The pile and the members' answers are synthetic: one member has probabilities, the other only
labels. Each size runs in separate processes: in the first the members only classify the pile; in
the second `sentikit label` labels, combines, certifies with 300 checked texts and writes table,
queue and certificate.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LABELS = ("negative", "neutral", "positive")
CHECKS = 300


def write(rows: int) -> None:
    """Write the pile, the answers of two members, and the checked texts to the current folder."""
    random = np.random.default_rng(0)
    gold = random.integers(0, 3, rows)
    sure = 0.34 + 0.66 * random.random(rows) ** 0.3
    predicted = np.where(random.random(rows) < sure, gold, (gold + 1) % 3)
    other = np.where(random.random(rows) < 0.8, gold, (gold + 2) % 3)
    drawn = frozenset(random.choice(rows, CHECKS, replace=False).tolist())
    with (
        open("pile.csv", "w") as pile,
        open("a.jsonl", "w") as a,
        open("b.jsonl", "w") as b,
        open("checked.csv", "w") as checked,
    ):
        pile.write("text\n")
        checked.write("text,label\n")
        for n in range(rows):
            text, rest = f"this is the review of number {n}", (1 - sure[n]) / 2
            pile.write(text + "\n")
            shares = {
                c: round(float(sure[n] if k == predicted[n] else rest), 6) for k, c in NUMBERED
            }
            record = {"text": text, "prediction": LABELS[predicted[n]], "probabilities": shares}
            a.write(json.dumps(record) + "\n")
            b.write(json.dumps({"text": text, "prediction": LABELS[other[n]]}) + "\n")
            if n in drawn:
                checked.write(f"{text},{LABELS[gold[n]]}\n")


NUMBERED = tuple(enumerate(LABELS))


def classify() -> None:
    """Classify the pile with both members."""
    import sentikit
    from sentikit.extension import InputFile

    source = InputFile("pile.csv")
    for name in ("a.jsonl", "b.jsonl"):
        member = sentikit.load(name)
        with source.open() as rows:
            text_of = source.reader(rows)
            for _ in member.classify(text_of(where, row) for where, row in rows):
                pass


def label() -> None:
    """Label the pile with `sentikit label`."""
    from sentikit.cli import sentikit as command

    words = "label pile.csv --with a.jsonl --with b.jsonl --checked checked.csv --output out.csv"
    command([*words.split(), "--review-queue", "queue.csv"], standalone_mode=False)


def main() -> None:
    """Print a line for each number of rows."""
    work = {"--classify": classify, "--label": label}
    if sys.argv[1:2] and sys.argv[1] in work:
        began = time.monotonic()
        work[sys.argv[1]]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([time.monotonic() - began, time.process_time(), peak]))
        return
    for rows in [int(size) for size in sys.argv[1:]] or [250_000, 1_000_000]:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, "-c", f"import label_rows; label_rows.write({rows})"],
                cwd=folder,
                check=True,
                env={"PYTHONPATH": str(Path(__file__).parent)},
            )
            found = []
            for step in work:
                command = [sys.executable, str(Path(__file__).resolve()), step]
                done = subprocess.run(
                    command, cwd=folder, check=True, capture_output=True, text=True
                )
                found.append(json.loads(done.stdout.splitlines()[-1]))
        for name, (wall, cpu, peak) in zip(("members", "label"), found, strict=True):
            print(f"{rows:>9,} rows, {name:<7} {wall:6.0f} s ({cpu:4.0f} of CPU), {peak:6.0f} MiB")
        (alone, own, before), (whole, all_of_it, peak) = found
        print(
            f"          beyond the members: {whole - alone:.0f} s ({all_of_it - own:.0f} of CPU), "
            f"{whole / alone:.2f} times their time; {peak - before:.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
