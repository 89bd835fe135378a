"""Metrics suit the label scheme of the data, in evaluations, comparisons, cascades and votes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from sentikit.cli import sentikit
from sentikit.datasets.labels import scheme_for_classes

Numbers = NDArray[np.int64]
KAPPA = "quadratic_weighted_kappa"
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
SCHEMES: dict[str, tuple[tuple[str, ...], str, bool]] = {
    # In alphabetical order they would stand otherwise.
    "a list in an order": (
        ("bad", "so-so", "good"),
        "{classes: [bad, so-so, good], ordered: true}",
        True,
    ),
    "a list without an order": (("anger", "fear", "joy"), "[anger, fear, joy]", False),
    "stars": (STARS, "stars", True),
    "three classes": (("negative", "neutral", "positive"), "neg_neu_pos", True),
}


def run(*words: str) -> Any:
    done = CliRunner().invoke(sentikit, words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def write(classes: tuple[str, ...], labels: str) -> tuple[list[str], list[Numbers], Numbers]:
    """Evaluate two results files; return their runs, their class numbers and the gold ones."""
    random_ = np.random.default_rng(3)
    gold = np.arange(90) % len(classes)
    lines = ["text,label", *(f"text {n},{classes[own]}" for n, own in enumerate(gold))]
    Path("test.csv").write_text("\n".join(lines) + "\n")
    runs, answers = [], []
    for name in "ab":
        predicted = np.where(random_.random(90) < 0.6, gold, random_.integers(0, len(classes), 90))
        rows = []
        for number, own in enumerate(predicted):
            top = 0.5 + 0.4 * (number % 2)
            rest = (1 - top) / (len(classes) - 1)
            shares = {label: top if n == own else rest for n, label in enumerate(classes)}
            given = {"text": f"text {number}", "gold": classes[gold[number]]}
            rows.append(given | {"label": classes[own], "probabilities": shares})
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = ["--dataset", "files", "--set", "test=test.csv", "--set", f"labels={labels}"]
        run("evaluate", f"{name}.jsonl", *words, "--output", f"runs/{name}", "--json")
        runs.append(f"runs/{name}")
        answers.append(predicted)
    return runs, answers, gold


def kappa(gold: Numbers, predicted: Numbers) -> float:
    return float(cohen_kappa_score(gold, predicted, weights="quadratic"))


@pytest.mark.parametrize(("classes", "labels", "ordered"), SCHEMES.values(), ids=list(SCHEMES))
def test_an_ordinal_metric_is_reported_only_for_ordered_classes(
    classes: tuple[str, ...], labels: str, ordered: bool
) -> None:
    runs, answers, gold = write(classes, labels)
    sure = np.arange(90) % 2 == 1
    judged = {
        "evaluate": (json.loads(Path("runs/a/metrics.json").read_text()), answers[0]),
        "cascade": (
            run("cascade", *runs, "--threshold", "0.7", "--json", "--output", "runs/cascade"),
            np.where(sure, answers[0], answers[1]),
        ),
        "vote": (run("vote", *runs, "--json", "--output", "runs/vote"), answers[0]),
    }
    for found, predicted in judged.values():
        expected = {KAPPA: pytest.approx(kappa(gold, predicted))} if ordered else {}
        assert found["overall"]["metrics"] == expected
    compared = run("compare", "runs/a", "runs/cascade", "runs/vote", "--json")
    assert [metric["name"] for metric in compared["metrics"]] == ([KAPPA] if ordered else [])
    for name in ("cascade", "vote"):
        kept = json.loads(Path(f"runs/{name}/metrics.json").read_text())["overall"]["metrics"]
        assert kept == judged[name][0]["overall"]["metrics"]
    assert json.loads(Path("runs/a/manifest.json").read_text())["ordered"] is ordered


def test_known_classes_in_a_shuffled_order_are_not_ordered() -> None:
    assert scheme_for_classes(["positive", "neutral", "negative"]).ordered
    assert scheme_for_classes(["negative", "neutral", "positive"]).ordered
    assert not scheme_for_classes(["positive", "negative", "neutral"]).ordered
