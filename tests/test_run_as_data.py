"""A run's predictions as training data, and the labels that a run finds suspect."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sentikit.plugins.plugin_kit.checks import check_plugin
from sentikit.plugins.suspects.confident_learning import find_suspects

from sentikit import InputError, open_dataset
from sentikit.cli import sentikit
from sentikit.extension import read_rows

CLASSES = ("negative", "neutral", "positive")


def results(name: str, rows: list[tuple[str, str, str, tuple[float, ...] | None]]) -> str:
    """Write a results file of (text, gold, prediction, probabilities)."""
    with open(name, "w") as stream:
        for text, gold, label, shares in rows:
            record: dict[str, Any] = {"text": text, "gold": gold, "prediction": label}
            if shares is not None:
                record["probabilities"] = dict(zip(CLASSES, shares, strict=True))
            stream.write(json.dumps(record) + "\n")
    return name


@pytest.fixture
def labelled() -> str:
    return results(
        "first.jsonl",
        [
            ("good", "positive", "positive", (0.05, 0.05, 0.9)),
            ("bad", "negative", "negative", (0.6, 0.2, 0.2)),
            ("odd", "neutral", "positive", (0.1, 0.1, 0.8)),
            ("what", "neutral", "no idea", (0.4, 0.3, 0.3)),
        ],
    )


def train(path: str, **settings: Any) -> dict[str, str | None]:
    split = open_dataset({"name": "run", "path": path, **settings}).split("train")
    return dict(zip(split.texts, split.labels, strict=True))


def test_predictions_are_the_labels_and_gold_is_not_used(labelled: str) -> None:
    assert train(labelled) == {"good": "positive", "bad": "negative", "odd": "positive"}


def test_uncertain_predictions_are_left_out(labelled: str) -> None:
    assert train(labelled, min_confidence=0.8) == {"good": "positive", "odd": "positive"}


def test_predictions_that_another_run_contradicts_are_left_out(labelled: str) -> None:
    other = results(
        "second.jsonl",
        [
            ("odd", "", "neutral", None),
            ("good", "", "positive", None),
            ("new", "", "neutral", None),
        ],
    )
    assert train(labelled, agree_with=other) == {"good": "positive"}
    assert train(labelled, agree_with=[other, labelled]) == {"good": "positive"}


def test_a_run_as_dataset_has_only_a_training_split(labelled: str) -> None:
    assert open_dataset({"name": "run", "path": labelled}).splits == ("train",)


def test_runs_unsuitable_as_training_data_are_refused(labelled: str) -> None:
    with pytest.raises(InputError, match=r"none of 4 rows meets"):
        train(labelled, min_confidence=0.99)
    bare = results("bare.jsonl", [("good", "", "positive", None)])
    with pytest.raises(InputError, match="has no probabilities: leave min_confidence out"):
        train(bare, min_confidence=0.5)


def test_the_manifest_states_that_labels_are_predictions(
    tiny_encoder: Path, reviews: Path, trained_run: Path
) -> None:
    Path("distilled.yaml").write_text(
        f"""dataset: {{name: run, path: {trained_run}, min_confidence: 0.34}}
evaluation_dataset: {{name: files, validation: {reviews}/validation.csv, test: {reviews}/test.csv}}
encoder: {{name: transformers, model: {tiny_encoder}, max_length: 64}}
head: {{name: linear, pooling: mean}}
training: {{epochs: 1, batch_size: 16, lr: 1e-3}}
"""
    )
    words = ["train", "--recipe", "distilled.yaml", "--output", "run", "--device", "cpu"]
    result = CliRunner().invoke(sentikit, words)
    assert result.exit_code == 0, result.stderr
    data = json.loads(Path("run/manifest.json").read_text())["data"]
    origin = f"predictions of {trained_run} (confidence 0.34 or more)"
    assert data["train"]["label_origin"] == origin
    assert "label_origin" not in data["validation"]


def test_the_run_dataset_passes_the_conformance_kit(labelled: str) -> None:
    check_plugin("run_dataset", settings={"run": {"path": labelled}})


def test_suspects_finds_wrong_labels_and_leaves_right_ones() -> None:
    generator = np.random.default_rng(3)
    true = generator.integers(0, 3, 3000)
    logits = generator.normal(size=(3000, 3))
    logits[np.arange(3000), true] += 3
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gold = true.copy()
    flipped = generator.choice(3000, 200, replace=False)
    gold[flipped] = (true[flipped] + 1) % 3
    found = find_suspects(gold, shares)
    assert found.judged == 3000
    assert len(set(found.rows) & set(flipped)) > 140
    assert np.isin(found.rows[:100], flipped).mean() > 0.95
    assert (np.diff(found.margins) >= 0).all()
    assert (found.suggested == shares[found.rows].argmax(axis=1)).all()


def test_suspects_are_listed_and_written_to_a_file_to_correct() -> None:
    sure = [(f"good {n}", "positive", "positive", (0.05, 0.05, 0.9)) for n in range(20)]
    sure += [(f"bad {n}", "negative", "negative", (0.9, 0.05, 0.05)) for n in range(20)]
    path = results("run.jsonl", [*sure, ("awful", "positive", "negative", (0.97, 0.02, 0.01))])
    words = ["datasets", "suspects", path]
    shown = CliRunner().invoke(sentikit, [*words, "--output", "suspects.csv"])
    assert shown.exit_code == 0, shown.stderr
    assert "1 of 41 labels are suspect" in shown.stdout
    with open("suspects.csv") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["text"], row["label"], row["suggested"]) == ("awful", "positive", "negative")
    listed = json.loads(CliRunner().invoke(sentikit, [*words, "--json"]).stdout)
    assert [entry["margin"] for entry in listed] == [-0.96]


def test_suspects_that_are_not_shown_are_mentioned_unless_a_file_holds_them() -> None:
    sure = [(f"good {n}", "positive", "positive", (0.05, 0.05, 0.9)) for n in range(90)]
    sure += [(f"bad {n}", "negative", "negative", (0.9, 0.05, 0.05)) for n in range(90)]
    wrong = [(f"awful {n}", "positive", "negative", (0.97, 0.02, 0.01)) for n in range(22)]
    words = ["datasets", "suspects", results("run.jsonl", [*sure, *wrong])]
    assert "2 more: --output FILE.csv" in CliRunner().invoke(sentikit, words).stderr
    written = CliRunner().invoke(sentikit, [*words, "--output", "suspects.csv"])
    assert written.stderr == "Wrote suspects.csv.\n"


def test_suspects_without_probabilities_or_gold_are_refused() -> None:
    bare = results("bare.jsonl", [("good", "positive", "positive", None)])
    refused = CliRunner().invoke(sentikit, ["datasets", "suspects", bare])
    assert refused.exit_code == 2
    assert "has no probabilities" in refused.stderr
    unlabelled = results("new.jsonl", [("good", "", "positive", (0.1, 0.1, 0.8))])
    refused = CliRunner().invoke(sentikit, ["datasets", "suspects", unlabelled])
    assert refused.exit_code == 2
    assert "both a gold label and probabilities" in refused.stderr


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_run_is_written_as_a_table_with_the_users_columns(kind: str, trained_run: Path) -> None:
    rows = [
        ("u1", "the film was great", 5),
        ("u2", "a bad film, truly", 1),
        ("u3", "it is a film", 3),
    ]
    lines = [f'{user},"{text}",{stars}' for user, text, stars in rows]
    Path("mine.csv").write_text("user,text,stars\n" + "\n".join(lines) + "\n")
    mapping = "label_map={1: negative, 3: neutral, 5: positive}"
    settings = ["--set", "test=mine.csv", "--set", "label=stars", "--set", mapping]
    words = ["evaluate", str(trained_run), "--dataset", "files", *settings, "--output", "judged"]
    judged = CliRunner().invoke(sentikit, words)
    assert judged.exit_code == 0, judged.stderr
    written = CliRunner().invoke(sentikit, ["runs", "table", "judged", "--output", f"table.{kind}"])
    assert written.exit_code == 0, written.stderr
    with read_rows(f"table.{kind}") as table:
        found = [dict(row) for _, row in table]
    assert [(row["user"], row["text"], row["stars"]) for row in found] == [
        (user, text, str(stars)) for user, text, stars in rows
    ]
    assert [row["gold"] for row in found] == ["positive", "negative", "neutral"]
    assert all(row["predicted_label"] in CLASSES for row in found)
    assert abs(sum(float(found[0][f"probability_{name}"]) for name in CLASSES) - 1) < 1e-3


def test_a_table_of_a_run_never_replaces_the_runs_data(trained_run: Path) -> None:
    text = "text,label\nthe film was great,positive\n"
    Path("mine.csv").write_text(text)
    words = ["evaluate", str(trained_run), "--dataset", "files", "--set", "test=mine.csv"]
    assert CliRunner().invoke(sentikit, [*words, "--output", "judged"]).exit_code == 0
    for output in ("mine.csv", "judged/predictions.jsonl"):
        words = ["runs", "table", "judged", "--output", output]
        refused = CliRunner().invoke(sentikit, words)
        assert refused.exit_code == 2
        assert f"--output {output} is also read or written by this command" in refused.stderr
    assert Path("mine.csv").read_text() == text


def judged_table(trained_run: Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Judge a model on a split, change the run's manifest, and return its table's first row."""
    lines = ["user,text,label", *(f"u{n},the film was great {n},positive" for n in range(20))]
    Path("mine.csv").write_text("\n".join(lines) + "\n")
    settings = ["--set", "train=mine.csv", "--set", "validation_holdout=4"]
    words = ["evaluate", str(trained_run), "--dataset", "files", "--split", "validation"]
    judged = CliRunner().invoke(sentikit, [*words, *settings, "--output", "judged"])
    assert judged.exit_code == 0, judged.stderr
    manifest = json.loads(Path("judged/manifest.json").read_text())
    change(manifest)
    Path("judged/manifest.json").write_text(json.dumps(manifest))
    written = CliRunner().invoke(sentikit, ["runs", "table", "judged", "--output", "table.csv"])
    assert written.exit_code == 0, written.stderr
    with read_rows("table.csv") as table:
        rows = [dict(row) for _, row in table]
    assert len(rows) == 4
    return rows[0]


@pytest.mark.parametrize(
    "section",
    [
        {"name": "files", "train": "mine.csv", "validation_holdout": 4},
        {"name": "of-a-plugin-that-is-gone"},
        {"name": "files", "validation": "gone.csv"},
    ],
    ids=["held out", "no plugin", "no file"],
)
def test_a_table_of_a_run_with_unavailable_data_has_the_runs_columns(
    section: dict[str, Any], trained_run: Path
) -> None:
    first = judged_table(trained_run, lambda m: m["recipe"].update(dataset=section))
    assert first["text"].startswith("the film was great")
    assert first["predicted_label"] in CLASSES
    assert "user" not in first


def test_the_users_columns_come_from_the_evaluated_dataset(trained_run: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        elsewhere = {"name": "files", "validation": "mine.csv"}
        manifest["recipe"].update(dataset={"name": "demo"}, evaluation_dataset=elsewhere)

    assert judged_table(trained_run, change)["user"].startswith("u")


def test_a_table_of_an_unknown_kind_is_refused(labelled: str) -> None:
    before = Path(labelled).read_bytes()
    refused = CliRunner().invoke(sentikit, ["runs", "table", labelled, "--output", labelled])
    assert refused.exit_code == 2
    assert "is also read or written" in refused.stderr
    assert Path(labelled).read_bytes() == before
    refused = CliRunner().invoke(sentikit, ["runs", "table", labelled, "--output", "a.xlsx"])
    assert refused.exit_code == 2
    assert "the name must end in .csv, .jsonl, .parquet" in refused.stderr
