"""Start-up time: ``sentikit --help`` against the help of a click hello world.

    python benchmarks/startup.py --runs 60
    python benchmarks/startup.py --runs 5 --onnx EXPORTED --run RUN --classifier DIR

With ``--onnx``, also the CPU-seconds of ``sentikit predict`` of one line with an exported folder,
against a script of onnxruntime and tokenizers; with ``--run`` and ``--classifier``, those of three
lines with a run, against transformers' pipeline with a text classifier of about the same size.

The two alternate in pairs, so that other work of the machine affects both. The script prints
medians and the median of the paired ratios, and fails if the ratio is above 2 or a heavy module is
imported.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELLO = '''
import click


@click.command()
@click.option("--count", default=1, help="Number of greetings.")
def hello(count):
    """Say hello."""
    for _ in range(count):
        click.echo("Hello!")


hello()
'''
BARE = """
import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
tokenizer.enable_truncation(128)
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
for line in sys.stdin:
    ids = np.array([tokenizer.encode(line.strip()).ids])
    print(session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0].argmax())
"""
PIPELINE = """
import sys

from transformers import pipeline

classify = pipeline("text-classification", sys.argv[1], device="cpu")
for line in sys.stdin:
    print(classify(line.strip()))
"""
SENTIKIT = "from sentikit.cli import main\n\nmain()\n"
HEAVY = ("torch", "transformers", "datasets", "numpy", "pandas", "openai")
LIMIT = 2.0


def main() -> None:
    """Measure and print; exit with 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60, help="pairs of runs")
    parser.add_argument("--onnx", type=Path, help="an exported ONNX folder")
    parser.add_argument("--run", type=Path, help="a run that trained an encoder")
    parser.add_argument("--classifier", type=Path, help="a text classifier of transformers")
    chosen = parser.parse_args()
    runs = chosen.runs
    if chosen.onnx:
        compare_predict("ONNX folder, 1 line", BARE, chosen.onnx, chosen.onnx, 1, runs)
    if chosen.run and chosen.classifier:
        compare_predict("run, 3 lines", PIPELINE, chosen.classifier, chosen.run, 3, runs)
    with tempfile.TemporaryDirectory() as temporary:
        hello, sentikit = Path(temporary, "hello.py"), Path(temporary, "sentikit_help.py")
        hello.write_text(HELLO)
        sentikit.write_text(SENTIKIT)
        pairs = [(seconds(hello), seconds(sentikit)) for _ in range(runs + 3)][3:]
    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
    report("click hello world", [theirs for theirs, _ in pairs])
    report("sentikit --help", [ours for _, ours in pairs])
    print(f"{'ratio':18} {ratio:6.2f} (median of {runs} pairs; at most {LIMIT})")
    heavy = imported_by_help()
    print(f"{'heavy modules':18} {', '.join(heavy) or 'none'}")
    sys.exit(1 if ratio > LIMIT or heavy else 0)


def compare_predict(
    name: str, script: str, theirs: Path, ours: Path, lines: int, runs: int
) -> None:
    """Print CPU-seconds of a script and of ``sentikit predict``, and their paired ratio."""
    text = "I love it\n" * lines
    commands = ([sys.executable, "-c", script, theirs], [sys.executable, "-c", SENTIKIT, "predict"])
    commands[1].append(ours)
    pairs = [[cpu_seconds(command, text) for command in commands] for _ in range(runs + 1)][1:]
    their, own = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    print(f"{name}: {their:.2f} CPU-s, sentikit {own:.2f}, ratio {ratio:.2f}")


def cpu_seconds(command: list[str | Path], text: str) -> float:
    """Run a command with `text` as input; return its user and system time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, input=text, text=True, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(name: str, times: list[float]) -> None:
    """Print a median and the fastest run."""
    median, fastest = 1e3 * statistics.median(times), 1e3 * min(times)
    print(f"{name:18} {median:6.0f} ms (fastest {fastest:.0f})")


def seconds(script: Path) -> float:
    """Run a script with --help in a new interpreter; return the wall-clock time."""
    start = time.perf_counter()
    subprocess.run([sys.executable, script, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def imported_by_help() -> list[str]:
    """Return the heavy modules that ``sentikit --help`` imports."""
    code = (
        "import sys\nfrom sentikit.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [name for name in HEAVY if name in done.stderr.split()]


if __name__ == "__main__":
    main()
