"""CPU minutes and peak memory of loading, tokenising and the first step, on synthetic rows.

    python benchmarks/million_rows.py --rows 250000 1000000

Each size runs in a separate process, with the encoder of the recipe quickstart (MiniLM-L6) and one
thread. Two figures of memory are printed: the process's own (RssAnon of /proc/self/status, without
mapped files), and the peak of the resident set, with pages of mapped files that the system can
drop.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory import MIB, Peak

WORDS = "the a film food service was is very not good bad great awful again and nine opens".split()
WORDS_PER_TEXT = 16
LABELS = ("negative", "neutral", "positive")


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    print("     rows  CPU min  peak own MiB  peak resident MiB")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            write_reviews(Path(folder), rows)
            words = [sys.executable, __file__, "--worker", folder]
            quiet = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
            done = subprocess.run(words, env=quiet, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{rows:>9,} {found['cpu'] / 60:>8.2f} {found['own'] / MIB:>13,.0f} "
            f"{found['resident'] / MIB:>18,.0f}",
            flush=True,
        )


def work(folder: Path) -> None:
    """Train until the first step is done; print time and memory."""
    from sentikit.recipe.resolving import resolve_recipe
    from sentikit.registry import default_registry
    from sentikit.training.job import JobOptions, train
    from sentikit.training.recipe import train_components
    from sentikit.training.trainer import Interrupted

    files = ", ".join(f"{split}: {folder}/{split}.csv" for split in ("train", "validation"))
    registry = default_registry()
    recipe = resolve_recipe("quickstart", [f"dataset={{name: files, {files}}}"], registry)
    peak, started = Peak(), time.process_time()
    try:
        options = JobOptions(device="cpu", threads=1, stop_requested=lambda: True)
        train(train_components(recipe, registry), folder / "run", options)
    except Interrupted:
        resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cpu = time.process_time() - started
        print(json.dumps({"cpu": cpu, "own": peak.stop(), "resident": resident}))


def write_reviews(folder: Path, rows: int) -> None:
    """Write train.csv with a number of rows, and a small validation.csv."""
    draw = random.Random(0)  # noqa: S311 - made-up texts, no secrets
    for split, count in (("train", rows), ("validation", 1000)):
        with (folder / f"{split}.csv").open("w", encoding="utf-8") as stream:
            stream.write("text,label\n")
            for _ in range(count):
                text = " ".join(draw.choice(WORDS) for _ in range(WORDS_PER_TEXT))
                stream.write(f"{text},{draw.choice(LABELS)}\n")


if __name__ == "__main__":
    main()
