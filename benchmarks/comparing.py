"""Time and memory of the statistics of `sentikit compare`.

    python benchmarks/comparing.py --data DATA

Prints seconds of wall clock and of CPU for 10,000 paired bootstraps of one pair on 6,530 rows
(and of scipy.stats.bootstrap on the same rows in the same run) and for the whole judgement of 24
runs in all pairs; and the memory per row for comparing two files of 1,000,000 rows, including pages
of mapped files. Without --data, the rows are synthetic.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit import Examples, read_run
from sentikit.comparison.alignment import AlignedRuns, align_runs
from sentikit.comparison.bootstrap import Resampling, estimate_pair
from sentikit.comparison.counts import count_cells
from sentikit.comparison.judgement import CompareOptions, compare_aligned
from sentikit.extension import Labelling, RunTable

CLASSES = ("negative", "neutral", "positive")
ROWS, RUNS, RESAMPLES = 6_530, 24, 10_000
MILLION = 1_000_000


def main() -> None:
    """Run the requested measurements and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with recorded/*.csv of the study")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--rows", type=int, default=MILLION, help="rows of the memory test")
    parser.add_argument("--shuffled", action="store_true", help="the second file in another order")
    parser.add_argument("--weigh", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.weigh is not None:
        weigh(options.weigh)
        return
    aligned = with_more_runs(recorded(options.data) if options.data else made_up(), RUNS)
    time_pair(aligned, options.repeat)
    time_scipy(aligned)
    time_all_pairs(aligned, options.repeat)
    measure_memory(options.rows, options.shuffled)


def recorded(folder: Path) -> AlignedRuns:
    """Return the study's recorded runs, the pair B3 and E3 first."""
    files = sorted((folder / "recorded").glob("[BE][0-9]*.csv"))
    files.sort(key=lambda file: not file.stem.startswith(("B3", "E3-")))
    return align_runs([read_run(file) for file in files])


def made_up() -> AlignedRuns:
    """Return two synthetic runs with as many rows as the study's test split."""
    random = np.random.default_rng(0)
    gold = random.integers(0, len(CLASSES), ROWS)
    names = [CLASSES[number] for number in gold]
    examples = Examples.from_columns([f"text {i}" for i in range(ROWS)], names)
    tables = []
    for name, share in (("first", 0.2), ("second", 0.17)):
        labels = np.where(random.random(ROWS) < share, random.integers(0, 3, ROWS), gold)
        tables.append(RunTable(name, CLASSES, examples, gold, Labelling(labels)))
    return align_runs(tables)


def with_more_runs(aligned: AlignedRuns, wanted: int) -> AlignedRuns:
    """Add runs that differ from the given ones in one label of twenty."""
    from dataclasses import replace

    random = np.random.default_rng(0)
    runs = list(aligned.runs)
    while len(runs) < wanted:
        origin = runs[len(runs) - len(aligned.runs)]
        labels = origin.answers.labels.copy()
        changed = random.random(len(labels)) < 0.05
        labels[changed] = random.integers(0, len(CLASSES), changed.sum())
        runs.append(replace(origin, name=f"run {len(runs)}", answers=Labelling(labels)))
    return replace(aligned, runs=tuple(runs[:wanted]))


def time_pair(aligned: AlignedRuns, repeat: int) -> None:
    """Time the paired bootstrap of one pair: counts, resamples, both kinds of intervals."""
    labels = [run.answers.labels for run in aligned.runs[:2]]
    found: list[Any] = []

    def work() -> None:
        cells = count_cells(aligned.gold, labels, len(CLASSES))
        found.append(estimate_pair(cells, Resampling(RESAMPLES)).macro_f1)

    report(f"one pair, {RESAMPLES:,} bootstraps, {len(aligned):,} rows", work, repeat)
    bounds = found[-1].percentile
    print(f"    difference {found[-1].value:.6f} [{bounds.low:.4f}, {bounds.high:.4f}]")


def time_scipy(aligned: AlignedRuns) -> None:
    """Time scipy on the same rows."""
    from scipy import stats

    rows = (aligned.gold, *(run.answers.labels for run in aligned.runs[:2]))

    def work() -> None:
        stats.bootstrap(
            tuple(column.astype(np.int8) for column in rows),
            macro_f1_difference,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=250,
            method="percentile",
            rng=np.random.default_rng(0),
        )

    report("    scipy.stats.bootstrap, percentile alone", work, 1)


def macro_f1_difference(
    gold: NDArray[np.int8], first: NDArray[np.int8], second: NDArray[np.int8], axis: int
) -> NDArray[np.float64]:
    """Return the difference in macro-F1, second run minus first."""
    scores = []
    for run in (first, second):
        by_class = []
        for label in range(len(CLASSES)):
            both = (gold == label).sum(axis) + (run == label).sum(axis)
            by_class.append(2 * ((gold == label) & (run == label)).sum(axis) / np.maximum(both, 1))
        scores.append(np.mean(by_class, 0))
    return np.asarray(scores[1] - scores[0])


def time_all_pairs(aligned: AlignedRuns, repeat: int) -> None:
    """Time the whole judgement: all intervals by source, all pairs, all tests."""
    pairs = len(aligned.runs) * (len(aligned.runs) - 1) // 2

    def work() -> None:
        assert len(compare_aligned(aligned, CompareOptions()).differences) == pairs

    title = f"{len(aligned.runs)} runs, {pairs} pairs, {RESAMPLES:,} resamples each, all tests"
    report(title, work, min(3, repeat))


def report(title: str, work: Callable[[], None], repeat: int) -> None:
    """Print the median seconds of a function."""
    walls, cpus = [], []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    print(f"{title:66} {wall:8.3f} s {cpu:8.3f} s of CPU (median of {repeat})", flush=True)


def measure_memory(rows: int, shuffled: bool) -> None:
    """Compare two large files in a separate process and print its memory."""
    with tempfile.TemporaryDirectory() as temporary:
        paths = [str(Path(temporary) / name) for name in ("first.csv", "second.csv")]
        for seed, path in enumerate(paths):
            write_large(Path(path), rows, seed, shuffled and seed == 1)
        small = [str(Path(temporary) / name) for name in ("a.csv", "b.csv")]
        for seed, path in enumerate(small):
            write_large(Path(path), 1000, seed, False)
        base, large = (weighed(files) for files in (small, paths))
    title = f"two files of {rows:,} rows" + (", one in another order" if shuffled else "")
    print(f"{title:66} {(large - base) / rows:8.0f} bytes a row at most")


def weighed(paths: list[str]) -> int:
    """Return the peak memory of a process that compares files, in bytes."""
    words = [sys.executable, __file__, "--weigh", *paths]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def weigh(paths: list[str]) -> None:
    """Compare files and print this process's peak memory in bytes."""
    import sentikit

    sentikit.compare(paths)
    # Unlike getrusage's peak, this one does not include the parent process.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) * 1024)


def write_large(path: Path, rows: int, seed: int, shuffled: bool) -> None:
    """Write a results file with texts about as long as the study's."""
    random = np.random.default_rng(seed + 1)
    wrong = random.random(rows) < 0.2
    order = random.permutation(rows) if shuffled else np.arange(rows)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "gold", "prediction", "source"])
        for row in order.tolist():
            gold = row % 3
            answered = CLASSES[(gold + int(wrong[row])) % 3]
            text = f"The review with the number {row} is made up, and it says nothing at all."
            writer.writerow([text, CLASSES[gold], answered, "ab"[row % 2]])


if __name__ == "__main__":
    main()
