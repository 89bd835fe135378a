"""Times ``sentikit --help`` against a click hello world, both asked for their help.

    python benchmarks/startup.py --runs 60

The two take turns in pairs, so that whatever else the machine does weighs on both alike. Prints
medians and the median of the paired ratios, and fails if the ratio is above 2 or if a heavy module
was imported.
"""

from __future__ import annotations

import argparse
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
SENTIKIT = "from sentikit.cli import main\n\nmain()\n"
HEAVY = ("torch", "transformers", "datasets", "numpy", "pandas", "openai")
LIMIT = 2.0


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60, help="pairs of runs")
    runs = parser.parse_args().runs
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


def report(name: str, times: list[float]) -> None:
    """Print a median and the fastest run."""
    median, fastest = 1e3 * statistics.median(times), 1e3 * min(times)
    print(f"{name:18} {median:6.0f} ms (fastest {fastest:.0f})")


def seconds(script: Path) -> float:
    """Run a script with --help in a fresh interpreter; return the wall-clock time."""
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
