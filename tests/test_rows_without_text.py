"""Rows without text keep their place and get no label, and repeated ids stay, in every command."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from llm_fixtures import RunningServer, serving

from sentikit import Classifier, Example, Prediction
from sentikit.classifiers.classifier import Session
from sentikit.cli import sentikit
from sentikit.datasets.labels import LabelScheme, label_scheme
from sentikit.labelling.rows import predicted
from sentikit.runs.writer import Row

TABLE = [
    ("1", "", "neutral"),
    ("2", "I love it", "positive"),
    ("2", "I hate it", "negative"),
    ("3", "   ", "positive"),
    ("4", "I read it", "neutral"),
    ("4", "", "negative"),
]
IDS = [row[0] for row in TABLE]
TEXTS = [row[1] for row in TABLE]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(sentikit, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def labels(folder: str) -> list[str | None]:
    lines = Path(folder, "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == IDS
    assert [row["text"] for row in rows] == [text.strip() for text in TEXTS]
    return [row["label"] for row in rows]


def has_none_without_text(found: list[Any]) -> bool:
    return [label is None for label in found] == [not text.strip() for text in TEXTS]


@pytest.fixture
def table() -> str:
    with open("reviews.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("id", "text", "label"), *TABLE])
    return "reviews.csv"


def prompt(server: RunningServer, folder: str, **strategy: Any) -> str:
    recipe = {
        "kind": "prompt",
        "dataset": {"name": "files", "test": "reviews.csv"},
        "llm": {"backend": "openai", "model": "any", "base_url": server.url},
        "strategy": {"name": "zero-shot", **strategy},
    }
    Path("mine.yaml").write_text(json.dumps(recipe))
    arguments = ["prompt", "--recipe", "mine.yaml", "--output", folder]
    result = CliRunner().invoke(sentikit, arguments)
    assert result.exit_code == 0, result.output
    return result.stderr


def test_encoders_llms_cascades_and_votes_keep_rows_without_text_and_repeated_ids(
    table: str, trained_run: Path
) -> None:
    found = run("predict", str(trained_run), table, "--format", "jsonl").splitlines()
    assert has_none_without_text([json.loads(line)["predicted_label"] for line in found])
    data = ("--dataset", "files", "--set", f"test={table}")
    run("evaluate", str(trained_run), *data, "--output", "runs/encoder")
    assert has_none_without_text(labels("runs/encoder"))
    with serving() as server:
        summary = prompt(server, "runs/llm")
        assert "0 of 3 answers invalid (0.0%), 3 rows without text" in summary
        prompts = [body["messages"][-1]["content"] for body in server.server.bodies]
        asked = [text for text in prompts if "Review:" in text]
        assert len(asked) == 3
        prompt(server, "runs/advised", name="label", adviser="runs/encoder")
    assert labels("runs/llm") == [None, "positive", "negative", None, "neutral", None]
    assert has_none_without_text(labels("runs/advised"))
    run("cascade", "runs/encoder", "runs/llm", "--threshold", "0.4", "--output", "runs/cascade")
    assert has_none_without_text(labels("runs/cascade"))
    run("vote", "runs/encoder", "runs/llm", "runs/advised", "--output", "runs/vote")
    assert has_none_without_text(labels("runs/vote"))
    for kind in ("llm", "cascade", "vote"):
        counts = json.loads(Path(f"runs/{kind}/manifest.json").read_text())
        assert (counts["rows"], counts["without_text"], counts["invalid"]) == (6, 3, 0), kind
    run("compare", "runs/encoder", "runs/llm", "runs/cascade")
    shown = json.loads(run("datasets", "show", *data[1:], "--json"))
    assert shown["splits"][0]["empty_texts"] == 3


def test_training_on_rows_without_text_is_refused(table: str, tiny_recipe: Path) -> None:
    result = CliRunner().invoke(
        sentikit, ["train", "--recipe", str(tiny_recipe), "--set", f"dataset.train={table}"]
    )
    assert result.exit_code == 2
    assert "reviews.csv, line 2: the text is empty (3 in split 'train')" in result.output


class Neutral(Classifier):
    """Reads all texts before it answers."""

    @property
    def scheme(self) -> LabelScheme:
        return label_scheme("neg_neu_pos")

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        yield from [Prediction("neutral") for _ in examples]


def test_consecutive_rows_without_text_do_not_accumulate_in_memory() -> None:
    texts, read = ["a", *[""] * 30_000, "b", "", "c", *[" "] * 30_000], 0

    def rows() -> Iterator[Row]:
        nonlocal read
        for text in texts:
            read += 1
            yield Row(Example(text))

    ahead, found = 0, []
    for row, prediction in predicted(Neutral(), rows(), Session()):
        found.append((row.example.text, prediction.label))
        ahead = max(ahead, read - len(found))
    assert found == [(text, "neutral" if text.strip() else None) for text in texts]
    assert ahead < 20_000
