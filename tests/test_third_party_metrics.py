"""Metrics of third-party plugins: where they appear, and what a broken one costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from plugin_writing import SitePackages

from sentikit import metrics
from sentikit.cli import sentikit

PLUGIN = """
import numpy as np
from sentikit import hookimpl
from sentikit.extension import Metric


@hookimpl
def register_metrics(register):
    for kind in (Distance, Nan, Raises, Text):
        register(kind.__name__.lower(), kind)


class Distance(Metric):
    title = "distance"
    higher_is_better = False

    def suits(self, scheme):
        return scheme.ordered

    def score(self, counts, classes):
        steps = np.abs(np.subtract.outer(np.arange(len(classes)), np.arange(len(classes) + 1)))
        return (counts * steps).sum((-1, -2)) / np.maximum(counts.sum((-1, -2)), 1)


class Nan(Metric):
    def score(self, counts, classes):
        return np.full(counts.shape[:-2], np.nan)


class Raises(Metric):
    def score(self, counts, classes):
        raise KeyError("no such class")


class Text(Metric):
    def score(self, counts, classes):
        return "0.9"
"""
BROKEN = (
    "The metric 'nan' of plugin 'distances' returned NaN or infinity",
    "The metric 'raises' of plugin 'distances' failed: KeyError: 'no such class'",
    "The metric 'text' of plugin 'distances' returned scores of shape ()",
)


@pytest.fixture(autouse=True)
def plugin(site: SitePackages) -> None:
    site.add_plugin("distances", PLUGIN)
    metrics.installed_metrics.cache_clear()
    metrics._warn_of.cache_clear()


def run(*words: str) -> Result:
    done = CliRunner().invoke(sentikit, words)
    assert done.exit_code == 0, done.output
    return done


def recorded(name: str, wrong: int) -> str:
    """Write a results file with so many wrong answers; return its name."""
    labels = ("negative", "neutral", "positive")
    rows = [
        {"text": f"text {n}", "gold": labels[n % 3], "label": labels[(n + (n < wrong)) % 3]}
        for n in range(60)
    ]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def test_a_metric_is_in_metrics_json_the_run_the_comparison_and_the_report() -> None:
    Path("gold.csv").write_text(
        "text,label\n"
        + "".join(f"text {n},{('negative', 'neutral', 'positive')[n % 3]}\n" for n in range(60))
    )
    for name, wrong in (("a", 6), ("b", 30)):
        words = ["--dataset", "files", "--set", "test=gold.csv", "--output", f"runs/{name}"]
        run("evaluate", recorded(f"{name}.jsonl", wrong), *words)
    own = json.loads(Path("runs/a/metrics.json").read_text())["overall"]["metrics"]
    assert own["distance"] == pytest.approx((4 * 1 + 2 * 2) / 60)
    shown = run("runs", "show", "runs/a").stdout
    assert "other metrics  distance 0.1333, quadratic_weighted_kappa" in shown
    compared = json.loads(run("compare", "runs/a", "runs/b", "--json").stdout)
    assert compared["runs"][0]["estimates"]["metrics"]["distance"]["value"] == own["distance"]
    assert "distance" in json.dumps(compared["differences"])
    run("compare", "runs/a", "runs/b", "--report", "report.html")
    assert "distance" in Path("report.html").read_text()


def test_a_broken_metric_is_left_out_with_a_warning_and_costs_no_run() -> None:
    done = run("compare", recorded("a.jsonl", 6), recorded("b.jsonl", 30))
    for problem in BROKEN:
        assert f"Warning: {problem}" in done.stderr
    assert done.stderr.count("It is left out.") == 3
    assert "distance" in done.stdout


def test_a_broken_metric_cannot_choose_the_best_epoch(tiny_recipe: Path) -> None:
    words = ["train", "--recipe", str(tiny_recipe), "--output", "run"]
    refused = CliRunner().invoke(
        sentikit, [*words, "--set", "training.early_stopping.metric=raises"]
    )
    assert refused.exit_code == 2
    assert "the metric 'raises' cannot score the classes negative, neutral" in refused.stderr
    assert not Path("run").exists()


def test_a_metric_that_chooses_the_best_epoch_is_shown_with_each_epoch(tiny_recipe: Path) -> None:
    words = ["train", "--recipe", str(tiny_recipe), "--output", "run", "--device", "cpu"]
    done = run(*words, "--set", "training.early_stopping.metric=distance")
    epochs = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    found = [float(line.split(", distance ")[1].split()[0]) for line in epochs]
    assert len(found) == 2
    best = next(number for number, line in enumerate(epochs) if "(best)" in line)
    assert found[best] == min(found[: best + 1])
