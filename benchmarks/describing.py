"""Time and memory of describing a large dataset with ``sentikit datasets show``.

    python benchmarks/describing.py

Writes synthetic CSV files of two sizes into a temporary folder, describes each in a separate
process, and prints CPU seconds, peak memory and bytes per row. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROWS = (100_000, 1_000_000)
WORDS_PER_TEXT = 16
PROGRAM = """
import resource, sys
from sentikit.cli import main
try:
    main(["datasets", "show", "files", "--set", f"test={sys.argv[1]}", "--json"])
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime)
"""


class Cost(NamedTuple):
    """Time and memory of a description."""

    cpu_seconds: float
    peak_mb: float


def main() -> None:
    """Write the files, describe them, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs=2, default=ROWS, help="the two sizes")
    sizes = parser.parse_args().rows
    costs = []
    with tempfile.TemporaryDirectory() as temporary:
        for rows in sizes:
            path = write_reviews(Path(temporary, f"{rows}.csv"), rows)
            costs.append(describe(path, rows))
            size = path.stat().st_size / 2**20
            print(
                f"{rows:>9,} rows {size:6.0f} MB of CSV {costs[-1].cpu_seconds:7.1f} s of CPU "
                f"{costs[-1].peak_mb:6.0f} MB of memory of its own at most"
            )
    growth = (costs[1].peak_mb - costs[0].peak_mb) * 2**20 / (sizes[1] - sizes[0])
    print(f"{growth:.0f} bytes of memory a row")


def write_reviews(path: Path, rows: int) -> Path:
    """Write a CSV file of different synthetic texts."""
    words = random.Random(0)  # noqa: S311 - made-up texts, no secrets
    with path.open("w", encoding="utf-8") as stream:
        stream.write("text,label,source\n")
        for row in range(rows):
            text = " ".join(f"word{words.randrange(30_000)}" for _ in range(WORDS_PER_TEXT))
            label = words.choice(["negative", "neutral", "positive"])
            stream.write(f"{text},{label},shop {row % 5}\n")
    return path


def describe(path: Path, rows: int) -> Cost:
    """Describe a file in a separate process and observe its memory.

    Pages of files are not counted, since the system can reclaim them.
    """
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, anonymous_memory(process.pid))
            time.sleep(0.02)
        assert process.stdout is not None
        description, used = process.stdout.read().rsplit("\n", 2)[:2]
    assert json.loads(description)["splits"][0]["examples"] == rows
    return Cost(float(used), peak / 1024)


def anonymous_memory(process: int) -> int:
    """Return a process's anonymous memory in KiB; 0 when it has ended."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"^RssAnon:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
