"""`predict` on a table with repeated texts, against eleven lines of pandas that label each once.

    python benchmarks/equal_texts.py
    python benchmarks/equal_texts.py MODEL --rows 20000 --distinct 3545 --rounds 5

Both start a process, load the model, label a CSV file and write another one. The arms alternate,
after one warm-up round. They are compared by CPU time, which other work on the machine affects
little. Without MODEL, the recipe quickstart (MiniLM on the demo texts) is trained first. The script
fails if the labels differ, or if `predict` takes more CPU time in the median of the pairs.
"""

from __future__ import annotations

import argparse
import csv
import random
import resource
import statistics
import subprocess
import sys
import tempfile
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
    """Write texts as long as review sentences, each about equally often."""
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


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def labels_of(path: Path, column: str) -> list[str]:
    with path.open(newline="") as stream:
        return [row[column] for row in csv.DictReader(stream)]


def main() -> None:
    """Run the arms alternately and print their medians and the ratio of the pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a run or a model folder")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--distinct", type=int, default=3_545)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(Path(folder, "run"))
        if options.model is None:
            train = ["train", "--recipe", "quickstart", "--output", model]
            subprocess.run([sys.executable, "-m", "sentikit", *train], check=True)
        source = Path(folder, "texts.csv")
        write_table(source, options.rows, options.distinct)
        script = Path(folder, "lines.py")
        script.write_text(PANDAS)
        outputs = {name: Path(folder, f"{name}.csv") for name in ("predict", "pandas")}
        files = [model, str(source)]
        arms = {
            "predict": ["-m", "sentikit", "predict", *files, "--output", str(outputs["predict"])],
            "pandas": [str(script), *files, str(outputs["pandas"])],
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(options.rounds + 1):
            for name in sorted(arms, reverse=bool(number % 2)):
                outputs[name].unlink(missing_ok=True)
                spent = cpu_seconds([sys.executable, *arms[name]])
                if number:
                    seconds[name].append(spent)
        own = labels_of(outputs["predict"], "predicted_label")
        theirs = labels_of(outputs["pandas"], "label")
        differing = sum(a != b for a, b in zip(own, theirs, strict=True))
    for name, found in seconds.items():
        print(f"{name}: {statistics.median(found):.1f} CPU-s of {[round(s, 1) for s in found]}")
    ratio = statistics.median(
        ours / other for ours, other in zip(seconds["predict"], seconds["pandas"], strict=True)
    )
    print(f"predict takes {ratio:.2f} of the time of the eleven lines; {differing} labels differ")
    sys.exit(1 if differing or ratio >= 1 else 0)


if __name__ == "__main__":
    main()
