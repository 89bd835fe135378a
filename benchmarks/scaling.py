"""Speed of two processes against one, each on its own core.

    python benchmarks/scaling.py --pairs 3
    python benchmarks/scaling.py --predict 1000000

Training: the same steps of a MiniLM-sized encoder by one process on one core and by two on two;
texts per second of wall time, with the ratio of each pair. Both arms run one pinned thread per
process (taskset), so that on an idle machine of two cores they only share memory.

``--predict N`` labels N synthetic lines with a tiny encoder in two processes of torchrun instead,
and
prints the peak memory of each for a tenth of the lines and for all: it must not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from million_rows import write_reviews

SENTIKIT = (sys.executable, "-m", "sentikit")


def main() -> None:
    """Run the pairs, or the long prediction."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--texts", type=int, default=1536)
    parser.add_argument("--predict", type=int, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.predict:
            predict_lines(Path(folder), options.predict)
        else:
            train_pairs(Path(folder), options.pairs, options.texts)


def train_pairs(folder: Path, pairs: int, texts: int) -> None:
    """Time one process and two alternately; print every pair's ratio and their median."""
    write_reviews(folder, texts)
    ratios = []
    print("pair  one process  two processes  ratio   (texts a second)")
    for pair in range(1, pairs + 1):
        one, two = (texts / training_seconds(folder, count, pair) for count in (1, 2))
        ratios.append(two / one)
        print(f"{pair:>4} {one:>12.1f} {two:>14.1f} {two / one:>6.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


def training_seconds(folder: Path, processes: int, pair: int) -> float:
    """Train one epoch; return the seconds of its steps, from the run's log."""
    run = folder / f"run-{pair}-{processes}"
    files = ", ".join(f"{split}: {folder}/{split}.csv" for split in ("train", "validation"))
    settings = (
        f"dataset={{name: files, {files}}}",
        "training.epochs=1",
        "training.batch_size=64",
        "training.early_stopping.target=0",
        "training.warmup=0",
        "engine.name=torch",
    )
    words = ["train", "--recipe", "quickstart", "--output", str(run), "--threads", "1"]
    words += [word for setting in settings for word in ("--set", setting)]
    if processes > 1:
        words += ["--nproc", str(processes)]
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:processes]))
    subprocess.run(["taskset", "-c", cores, *SENTIKIT, *words], check=True, capture_output=True)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["processes"] == processes
    return float(manifest["training_seconds"])


def predict_lines(folder: Path, lines: int) -> None:
    """Label a tenth of the lines and all of them; print time and peak memory."""
    model = tiny_model(folder)
    print(f"{'lines':>10} {'CPU s':>8} {'wall s':>8}  peak MiB of each process")
    for count in (lines // 10, lines):
        texts, labelled = folder / f"{count}.txt", folder / f"{count}.jsonl"
        with texts.open("w") as stream:
            stream.writelines(f"text number {n} is good\n" for n in range(count))
        started, cpu = time.perf_counter(), children_seconds()
        peaks = labelling_peaks(model, texts, labelled)
        wall, cpu = time.perf_counter() - started, children_seconds() - cpu
        with labelled.open() as stream:
            in_order = all(
                json.loads(line)["text"] == f"text number {n} is good"
                for n, line in enumerate(stream)
            )
        assert in_order
        listed = ", ".join(f"{peak:,.0f}" for peak in peaks)
        print(f"{count:>10,} {cpu:>8.0f} {wall:>8.0f}  {listed}", flush=True)


def labelling_peaks(model: Path, texts: Path, labelled: Path) -> list[float]:
    """Label a file with two processes of torchrun; return the peak memory of each, in MiB."""
    program = (
        "import pathlib, sys\n"
        "from sentikit.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(pathlib.Path('/proc/self/status').read_text())\n"
    )
    script = labelled.with_suffix(".py")
    script.write_text(program)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = ["predict", str(model), str(texts), "--threads", "1", "--output", str(labelled)]
    done = subprocess.run(
        [*launcher, "--nproc-per-node=2", str(script), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return [int(size) / 1024 for size in re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)]


def tiny_model(folder: Path) -> Path:
    """Train the tests' tiny encoder for an epoch; return the run."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from tiny_models import make_encoder, make_reviews

    encoder, reviews = make_encoder(folder / "encoder"), make_reviews(folder / "reviews")
    files = ", ".join(f"{split}: {reviews}/{split}.csv" for split in ("train", "validation"))
    words = ["train", "--recipe", "minilm", "--output", str(folder / "run"), "--threads", "1"]
    for setting in (
        f"dataset={{name: files, {files}}}",
        f"encoder={{name: transformers, model: {encoder}}}",
        "training.epochs=1",
    ):
        words += ["--set", setting]
    subprocess.run([*SENTIKIT, *words], check=True, capture_output=True)
    return folder / "run"


def children_seconds() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    times: Any = os.times()
    return float(times.children_user + times.children_system)


if __name__ == "__main__":
    main()
