"""Memory and speed of `sentikit predict --on ray` on a local cluster of two workers.

    python benchmarks/ray_labelling.py --rows 1000000 10000000
    python benchmarks/ray_labelling.py --model runs/quickstart --rows 50000 --pairs 3

Without a model, a stub labels synthetic Parquet rows, to measure Ray, reading and writing. For each
size the script prints the seconds, the peak resident memory of the driver and of each actor, and
whether the parts equal those of one worker. With a model, one worker and two alternate, and the
ratio of each pair is printed; this needs an idle machine with two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

STUB = '''
"""The classifier `stub`: the label follows from the length of the text."""
from sentikit import Example, Prediction, hookimpl
from sentikit.extension import PluginClassifier


class Stub(PluginClassifier):
    def load(self, folder):
        pass

    def classify(self, examples, session=None):
        shares = [
            {label: 0.8 if label == top else 0.1 for label in self.labels} for top in self.labels
        ]
        for example in examples:
            text = example.text if isinstance(example, Example) else example
            which = len(text) % len(self.labels)
            yield Prediction(self.labels[which], shares[which])


@hookimpl
def register_classifiers(register):
    register("stub", Stub, summary="labels by the length of the text")
'''
_ROWS_PER_FILE = 1_000_000


def write_rows(folder: Path, rows: int) -> None:
    """Write files of a million synthetic rows each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = random.Random(1)  # noqa: S311 - made-up texts
    words = "the food was good and we came back for more of it every single week".split()
    phrases = [" ".join(chance.choices(words, k=chance.randint(4, 40))) for _ in range(1000)]
    folder.mkdir()
    for start in range(0, rows, _ROWS_PER_FILE):
        numbers = range(start, min(rows, start + _ROWS_PER_FILE))
        texts = [f"{phrases[number % 1000]} {number}" for number in numbers]
        table = pa.table({"id": pa.array(numbers, pa.int64()), "text": texts})
        pq.write_table(table, folder / f"{start:012d}.parquet", row_group_size=100_000)


def label(model: str, rows: Path, output: Path, workers: int) -> tuple[float, dict[str, float]]:
    """Label the rows; return the seconds and the peak memory in MiB by kind of process."""
    command = [sys.executable, "-m", "sentikit", "predict-on-ray", model, str(rows)]
    command += ["--output", str(output), "--workers", str(workers), "--device", "cpu"]
    began = time.perf_counter()
    peaks: dict[str, float] = defaultdict(float)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for name, size in resident(process.pid).items():
                peaks[name] = max(peaks[name], size)
            time.sleep(0.5)
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()
    return time.perf_counter() - began, dict(peaks)


def resident(driver: int) -> dict[str, float]:
    """Return the resident memory in MiB of the driver and of each actor."""
    parents, commands, sizes = {}, {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        number = int(entry.name)
        try:
            commands[number] = (entry / "cmdline").read_bytes().decode(errors="replace")
            parents[number] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            pages = int((entry / "statm").read_text().split()[1])
        except OSError:
            continue
        sizes[number] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    found = {"driver": sizes[driver]} if driver in sizes else {}
    for number, command in commands.items():
        if not command.startswith("ray::MapWorker"):
            continue
        above = number
        while above in parents and above != driver:
            above = parents[above]
        if above == driver:
            found[f"actor {number}"] = sizes[number]
    return found


def digest(output: Path) -> str:
    """Return a digest of all parts."""
    found = hashlib.sha256()
    for part in sorted(output.glob("part-*.parquet")):
        found.update(part.read_bytes())
    return found.hexdigest()


def stub_memory(folder: Path, sizes: list[int], alone: bool) -> None:
    """Label every size with the stub; memory must not grow."""
    plugin = folder / "stub.py"
    plugin.write_text(STUB)
    os.environ["SENTIKIT_PLUGINS"] = str(plugin)
    for rows in sizes:
        source, output = folder / f"rows-{rows}", folder / f"two-{rows}"
        write_rows(source, rows)
        seconds, peaks = label("stub", source, output, 2)
        shown = ", ".join(f"{name} {size:.0f} MiB" for name, size in sorted(peaks.items()))
        print(f"{rows:>11,} rows  {seconds:.0f} s with Ray's start  {shown}", flush=True)
        if alone:
            label("stub", source, folder / f"one-{rows}", 1)
            same = digest(folder / f"one-{rows}") == digest(output)
            print(f"             the bytes of one worker: {same}", flush=True)


def model_pairs(folder: Path, model: str, rows: int, pairs: int) -> None:
    """Label with one worker and with two alternately, and print the ratios."""
    source, ratios = folder / "rows", []
    write_rows(source, rows)
    for pair in range(pairs):
        one = label(model, source, folder / f"one-{pair}", 1)[0]
        two = label(model, source, folder / f"two-{pair}", 2)[0]
        ratios.append(one / two)
        print(f"one worker {one:.1f} s  two {two:.1f} s  ratio {one / two:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


def main() -> None:
    """Measure memory with the stub, or speed with a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a run or a model folder; default: a stub")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="compare with one worker's bytes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model:
            model_pairs(Path(folder), options.model, options.rows[0], options.pairs)
        else:
            stub_memory(Path(folder), options.rows, options.alone)


if __name__ == "__main__":
    main()
