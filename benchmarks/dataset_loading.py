"""Time for loading datasets, on synthetic files of the published sizes.

    python benchmarks/dataset_loading.py

Writes DynaSent and treebank files of the study's training sizes (102,097 labelled rows) into a
temporary folder, loads and merges them as ``merged`` does, and prints seconds and peak memory.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sentikit

ROUND_1, ROUND_2, TREEBANK = 80_488, 13_065, 8_544
UNDECIDED_SHARE = 0.15  # of DynaSent's rows; they are read and left out
WORDS_PER_TEXT = 16


class Load(NamedTuple):
    """Time and memory of loading."""

    rows: int
    seconds: float
    cpu_seconds: float


def main() -> None:
    """Write the files, load them, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the published sizes")
    scale = parser.parse_args().scale
    timed_load({"name": "demo"})  # imports what any dataset needs
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_parts(folder / "parts", scale)
        report("merged, from its parts", {"name": "merged", "path": folder / "parts"})
        write_published(folder / "published", folder / "parts")
        report("merged, published CSV", {"name": "merged", "path": folder / "published"})
        balanced = {"name": "merged", "path": folder / "published", "balance": "source"}
        report("merged, sources balanced", balanced)


def report(title: str, section: Mapping[str, Any]) -> None:
    """Load the training split and print time and memory."""
    load = timed_load(section)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{title:26} {load.rows:>9,} rows {load.seconds:7.2f} s {load.cpu_seconds:7.2f} s of CPU "
        f"{peak:6.0f} MB peak so far"
    )


def timed_load(section: Mapping[str, Any]) -> Load:
    """Open a dataset and load its training split."""
    start, cpu_start = time.perf_counter(), time.process_time()
    examples = sentikit.open_dataset(section).split("train")
    return Load(len(examples), time.perf_counter() - start, time.process_time() - cpu_start)


def write_parts(folder: Path, scale: float) -> None:
    """Write training files of DynaSent and the treebank, as large as the published ones."""
    folder.mkdir(parents=True)
    words = random.Random(0)  # noqa: S311 - made-up texts, no secrets
    rounds = {"round01-yelp": ROUND_1, "round02-dynabench": ROUND_2}
    for number, (name, size) in enumerate(rounds.items(), start=1):
        path = folder / f"dynasent-v1.1-{name}-train.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            for row in dynasent_rows(words, number, round(scale * size)):
                stream.write(json.dumps(row) + "\n")
    with (folder / "train.txt").open("w", encoding="utf-8") as stream:
        for _ in range(round(scale * TREEBANK)):
            stream.write(tree(words, text(words).split()) + "\n")


def write_published(folder: Path, parts: Path) -> None:
    """Write the merged rows of `parts` as the published CSV file."""
    folder.mkdir(parents=True)
    examples = sentikit.open_dataset({"name": "merged", "path": parts}).split("train")
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sentence", "label", "source", "split"])
        for batch in examples.batches():
            cells = zip(batch["text"], batch["label"], batch["source"], strict=True)
            writer.writerows([*row, "train"] for row in cells)


def dynasent_rows(words: random.Random, number: int, size: int) -> Iterator[dict[str, Any]]:
    """Yield `size` rows with a gold label, and undecided ones in between."""
    kept = 0
    while kept < size:
        undecided = words.random() < UNDECIDED_SHARE
        label = None if undecided else words.choice(["negative", "neutral", "positive"])
        kept += not undecided
        yield {
            "hit_ids": [f"y{words.randrange(10**5)}"],
            "sentence": text(words),
            "indices_into_review_text": [0, 60],
            "model_0_label": "positive",
            "model_0_probs": {c: words.random() for c in ("negative", "positive", "neutral")},
            "text_id": f"r{number}-{words.randrange(10**9):09}",
            "review_id": "IDHkeGo-nxhqX4Exkdr08A",
            "review_rating": 1,
            "label_distribution": {"positive": ["w130", "w186"], "negative": [], "mixed": []},
            "gold_label": label,
        }


def text(words: random.Random) -> str:
    """Return a synthetic sentence."""
    return " ".join(f"word{words.randrange(30_000)}" for _ in range(WORDS_PER_TEXT))


def tree(words: random.Random, leaves: list[str]) -> str:
    """Write a binary tree over `leaves`."""
    label = words.randrange(5)
    if len(leaves) == 1:
        return f"({label} {leaves[0]})"
    middle = len(leaves) // 2
    return f"({label} {tree(words, leaves[:middle])} {tree(words, leaves[middle:])})"


if __name__ == "__main__":
    main()
