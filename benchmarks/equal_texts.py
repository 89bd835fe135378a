"""`predict` on a table whose texts repeat, against eleven lines of pandas that label each once.

Usage: python benchmarks/equal_texts.py MODEL [--rows 20000] [--distinct 3545] [--rounds 3]

Both start a process, load the model, label a CSV file and write another one; the arms take turns.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PANDAS = """
import sys

import pandas as pd
import sentikit

table = pd.read_csv(sys.argv[2])
classifier = sentikit.load(sys.argv[1])
distinct = table["text"].drop_duplicates().reset_index(drop=True)
shares = pd.DataFrame(classifier.predict_proba(distinct), columns=classifier.labels)
shares["label"], shares["text"] = shares.idxmax(axis=1), distinct
table.merge(shares, on="text", how="left").to_csv(sys.argv[3], index=False)
"""


def write_table(path: Path, rows: int, distinct: int) -> None:
    """Write texts of the length of review sentences, each about equally often."""
    chance = random.Random(1)  # noqa: S311 - made-up texts
    words = "the food was good and we came back for more of it every single week never".split()
    texts = [
        f"{' '.join(chance.choices(words, k=chance.randint(4, 40)))} {number}"
        for number in range(distinct)
    ]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text"])
        repeated = [*texts, *chance.choices(texts, k=rows - distinct)]
        writer.writerows(enumerate(repeated))


def main() -> None:
    """Run the arms in turn and print each one's median and the ratio of the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a run or a model folder")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--distinct", type=int, default=3_545)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "texts.csv"), Path(folder, "labelled.csv")
        write_table(source, options.rows, options.distinct)
        script = Path(folder, "lines.py")
        script.write_text(PANDAS)
        files = [options.model, str(source)]
        arms = {
            "predict": ["-m", "sentikit", "predict", *files, "--output", str(output)],
            "pandas": [str(script), *files, str(output)],
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(options.rounds):
            for name, arguments in arms.items():
                output.unlink(missing_ok=True)
                began = time.perf_counter()
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - began)
        for name, found in seconds.items():
            print(f"{name}: {statistics.median(found):.1f} s of {[round(s, 1) for s in found]}")
        pairs = zip(seconds["predict"], seconds["pandas"], strict=True)
        ratios = [ours / theirs for ours, theirs in pairs]
        print(f"predict takes {statistics.median(ratios):.2f} of the time of the eleven lines")


if __name__ == "__main__":
    main()
