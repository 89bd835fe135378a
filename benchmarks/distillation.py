"""Training on an LLM's labels: the loss against gold labels, and which texts to label.

    python benchmarks/distillation.py [--students tfidf,head,minilm] [--epochs 2] [--skip-samples]

The 6,530 recorded test rows are divided into five folds (seed 0). Each student is trained on four
of them, once with GPT-4o mini's recorded zero-shot answers (`dataset: {name: run, path: …}`), once
with gold labels, with the same settings and seed, and scored with gold on the fifth. A tenth of
the training texts, with the labels of the same teacher, chooses the epoch. `head` is MiniLM-L6
with its weights frozen, `minilm` the whole of it fine-tuned. Settings are those of the recipes;
nothing was tuned on these rows.

The second question is which texts the LLM should label with a budget of 600 answers: 600 random
ones, or 300 random ones and the 300 with the lowest confidence of a student trained on these.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t
from sklearn.metrics import f1_score

import sentikit

#: The study's files: a folder named by SENTIKIT_STUDY_DATA, or ./data.
RECORDED = Path(os.environ.get("SENTIKIT_STUDY_DATA", "data")) / "recorded"
TEACHER = "B3-G4OM"
FOLDS, BUDGET = 5, 600


class Student:
    """A recipe that is trained on some rows and predicts others."""

    def __init__(self, name: str, epochs: int, folder: Path) -> None:
        self.name, self._folder, self._count = name, folder, 0
        self._settings: dict[str, Any] = {"output": None}
        self._recipe = "tfidf" if name == "tfidf" else "minilm"
        if name == "head":
            self._settings |= {"finetune_layers": "none", "epochs": 12, "batch_size": 128}
            self._settings |= {"layer_decay": 1.0, "lr": 1e-3, "head_lr": 1e-2}
        elif name == "minilm":
            self._settings["epochs"] = epochs

    def train(self, rows: list[dict[str, str]], taught: bool) -> Any:
        """Train on the teacher's answers or on gold, and return the trained classifier."""
        self._count += 1
        path = self._folder / f"{self.name}-{self._count}.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        dataset: dict[str, Any] = {"name": "run", "path": str(path)}
        if not taught:
            dataset = {"name": "files", "train": str(path), "label": "classification"}
        if self.name != "tfidf":
            dataset["validation_holdout"] = 0.1
        settings = self._settings | {"output": path.with_suffix("")}
        sentikit.train(self._recipe, dataset=dataset, **settings)
        return sentikit.load(str(path.with_suffix("")))


def macro_f1(classifier: Any, rows: list[dict[str, str]]) -> float:
    """Score on gold."""
    predicted = classifier.predict([row["review"] for row in rows])
    return float(f1_score([row["classification"] for row in rows], predicted, average="macro"))


def folds(
    rows: list[dict[str, str]], seeds: int = 1
) -> list[tuple[list[dict[str, str]], list[dict[str, str]]]]:
    """Return the training and test rows of each fold, for one or more divisions."""
    found = []
    for seed in range(seeds):
        parts = np.array_split(np.random.default_rng(seed).permutation(len(rows)), FOLDS)
        for number, held in enumerate(parts):
            rest = np.concatenate([part for other, part in enumerate(parts) if other != number])
            found.append(([rows[i] for i in rest], [rows[i] for i in held]))
    return found


def least_sure(classifier: Any, rows: list[dict[str, str]], count: int) -> list[dict[str, str]]:
    """Return the rows with a classifier's lowest confidence."""
    shares = classifier.predict_proba([row["review"] for row in rows])
    return [rows[i] for i in np.argsort(shares.max(axis=1), kind="stable")[:count]]


def show(name: str, pairs: list[tuple[float, float]], names: tuple[str, str], began: float) -> None:
    """Print the means of two arms, their ratio and the interval of their difference."""
    table: NDArray[np.float64] = np.array(pairs)
    first, second = table.mean(axis=0)
    difference = table[:, 0] - table[:, 1]
    reach = t.ppf(0.975, len(pairs) - 1) * difference.std(ddof=1) / np.sqrt(len(pairs))
    print(
        f"{name:<8} {names[0]} {first:.4f}  {names[1]} {second:.4f}  ratio {first / second:.3f}  "
        f"difference {difference.mean():+.4f} (95 % interval ± {reach:.4f})  "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )


def main() -> None:
    """Print a line for each student and question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", default="tfidf,head,minilm")
    parser.add_argument("--epochs", type=int, default=2, help="of minilm")
    parser.add_argument("--skip-teaching", action="store_true")
    parser.add_argument("--skip-samples", action="store_true")
    options = parser.parse_args()
    with (RECORDED / f"{TEACHER}.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    gold, predicted = zip(
        *((row["classification"], row["prediction"]) for row in rows), strict=True
    )
    teacher = f1_score(gold, predicted, average="macro")
    print(f"macro-F1 on gold; the teacher itself: {teacher:.4f}")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.students.split(","):
            student = Student(name, options.epochs, Path(folder))
            if not options.skip_teaching:
                began, pairs = time.monotonic(), []
                for train, test in folds(rows):
                    taught = macro_f1(student.train(train, True), test)
                    pairs.append((taught, macro_f1(student.train(train, False), test)))
                show(name, pairs, ("taught by the LLM", "taught by gold"), began)
            if options.skip_samples or name == "minilm":
                continue
            began, pairs = time.monotonic(), []
            for train, test in folds(rows, seeds=1 if name == "head" else 4):
                half, half_more = train[: BUDGET // 2], train[:BUDGET]
                first = student.train(half, True)
                chosen = half + least_sure(first, train[BUDGET // 2 :], BUDGET // 2)
                sure = macro_f1(student.train(chosen, True), test)
                pairs.append((sure, macro_f1(student.train(half_more, True), test)))
            show(name, pairs, (f"{BUDGET} labels, half least sure", "at random"), began)


if __name__ == "__main__":
    main()
