"""CPU use of labelling: tokenising must overlap with computing.

    python benchmarks/core_use.py --texts DATA/merged/test.csv --run runs/minilm

A trained encoder labels the texts with one thread per core. For each round, this prints texts per
second, and the process's share (`os.times`) of the CPU time that other programs leave (Linux's
/proc/stat). On a busy machine the share is only approximate, since a thread that waits for a core
delays the others. Without --run, the recipe quickstart is trained.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from inference import TEST_TEXTS, read_texts, trained_run

import sentikit
from sentikit.processes.launching import usable_cores


def used_by_all() -> float:
    """Return the CPU-seconds that all programs have used since the machine started."""
    user, nice, system, _idle, _wait, interrupts, soft, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def used_here() -> float:
    """Return the CPU-seconds of this process."""
    times = os.times()
    return times.user + times.system


def main() -> None:
    """Label the texts several times and print the shares."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--texts", type=Path, default=TEST_TEXTS, help="a CSV file")
    options.add_argument("--limit", type=int, help="a random part of the texts")
    options.add_argument("--run", type=Path, help="a run with a trained model")
    options.add_argument("--precision", default="auto")
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    if not chosen.texts.is_file():
        print(f"Not run: {chosen.texts} is not here. Give a CSV file of texts with --texts.")
        return
    cores = usable_cores()
    torch.set_num_threads(cores)
    texts = read_texts(chosen.texts, chosen.limit)
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        run = trained_run(chosen.run, Path(folder))
        print(f"{len(texts)} texts, {cores} cores")
        for _ in range(chosen.rounds):
            classifier = sentikit.load(run, device="cpu", precision=chosen.precision)
            classifier.predict(texts[:64])
            own, everybody, started = used_here(), used_by_all(), time.perf_counter()
            classifier.predict(texts)
            wall, own = time.perf_counter() - started, used_here() - own
            others = max(0.0, used_by_all() - everybody - own)
            shares.append(own / (wall * cores - others))
            print(
                f"{len(texts) / wall:8.1f} texts/s; of {wall * cores:.1f} core-seconds used here "
                f"{own:.1f}, by others {others:.1f}: {shares[-1]:.1%} of what was left"
            )
    print(f"median {statistics.median(shares):.1%}, wanted: 95 %")


if __name__ == "__main__":
    main()
