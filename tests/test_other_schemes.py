"""Data of another label scheme than the classifier's are refused or mapped, never scored so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import sentikit as toolkit
from sentikit.cli import sentikit
from sentikit.datasets.labels import FIVE_CLASSES

THREE = ("negative", "neutral", "positive")


def run(*words: str) -> Result:
    return CliRunner().invoke(sentikit, words)


def recorded(classes: Sequence[str], number: int) -> str:
    """Write a results file whose answers are right; return its name."""
    rows = [
        {"text": f"text {row}", "gold": label, "label": label}
        for row, label in ((row, classes[row % len(classes)]) for row in range(number))
    ]
    Path("recorded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "recorded.jsonl"


def write(labels: Sequence[str], number: int, name: str = "test.csv") -> str:
    """Write a table with these labels in turn; return the setting that names it."""
    lines = [f"text {row},{labels[row % len(labels)]}" for row in range(number)]
    Path(name).write_text("text,label\n" + "\n".join(lines) + "\n")
    return f"test={name}"


def evaluate(data: str, *settings: str) -> Result:
    words = [word for setting in (data, *settings) for word in ("--set", setting)]
    return run("evaluate", "recorded.jsonl", "--dataset", "files", *words, "--json")


def test_many_texts_that_lack_a_class_of_the_model_are_refused_with_the_map_to_give() -> None:
    recorded(FIVE_CLASSES, 100)
    refused = evaluate(write(THREE, 100))
    assert refused.exit_code == 2
    assert "None of the 100 texts of files/test is 'very negative' or 'very positive'" in (
        refused.stderr
    )
    wanted = "dataset.label_map={'negative': CLASS, 'neutral': CLASS, 'positive': CLASS}"
    assert wanted in refused.stderr
    assert "state it with dataset.labels=five" in refused.stderr
    with pytest.raises(toolkit.InputError, match="seem to have another label scheme"):
        toolkit.evaluate("recorded.jsonl", {"name": "files", "test": "test.csv"})


def test_data_with_two_of_three_classes_are_refused_as_another_scheme() -> None:
    recorded(THREE, 100)
    refused = evaluate(write(("negative", "positive"), 100))
    assert refused.exit_code == 2
    assert "is 'neutral', so they seem to have another label scheme" in refused.stderr


def test_the_map_to_give_names_the_labels_as_the_data_spell_them() -> None:
    recorded(THREE, 100)
    refused = evaluate(write(("neg", "pos"), 100))
    assert refused.exit_code == 2
    assert "dataset.label_map={'neg': CLASS, 'pos': CLASS}" in refused.stderr


@pytest.mark.parametrize(
    "setting", ["labels=five", "label_map={neutral: very negative, positive: very positive}"]
)
def test_a_stated_scheme_or_a_map_is_accepted_with_a_warning(setting: str) -> None:
    recorded(FIVE_CLASSES, 100)
    scored = evaluate(write(THREE, 100), setting)
    assert scored.exit_code == 0, scored.stderr
    assert "counts as 0 in macro-F1" in scored.stderr
    assert "dataset.labels" not in scored.stderr  # Other classes than the model's are refused.


def test_a_small_sample_of_the_same_scheme_may_lack_a_class() -> None:
    recorded(FIVE_CLASSES, 100)
    scored = evaluate(write(THREE, 99))
    assert scored.exit_code == 0, scored.stderr
    assert "No test text is labelled 'very negative' or 'very positive'" in scored.stderr


def test_data_with_every_class_are_scored_without_a_warning() -> None:
    recorded(FIVE_CLASSES, 100)
    scored = evaluate(write(FIVE_CLASSES, 100))
    assert scored.exit_code == 0, scored.stderr
    assert not scored.stderr


def test_a_label_outside_the_scheme_is_refused_with_all_labels_to_map() -> None:
    recorded(("anger", "fear", "joy"), 60)
    refused = evaluate(write(THREE, 60))
    assert refused.exit_code == 2
    assert "dataset.label_map={'negative': CLASS, 'neutral': CLASS, 'positive': CLASS}" in (
        refused.stderr
    )


RECIPE = """dataset: {name: files, train: train.csv, test: test.csv}
classifier: {name: tfidf}
"""


def test_training_warns_of_a_class_that_no_text_has() -> None:
    write(("negative", "positive"), 60, "train.csv")
    write(("negative", "positive"), 60)
    Path("two.yaml").write_text(RECIPE)
    trained = run("train", "--recipe", "two.yaml", "--output", "runs/two")
    assert trained.exit_code == 0, trained.stderr
    for split in ("train", "test"):
        assert f"No {split} text is labelled 'neutral', so such a class counts" in trained.stderr
    assert "list theirs in dataset.labels" in trained.stderr
    settings = ("--set", "dataset.labels=[negative, positive]", "--output", "runs/three")
    trained = run("train", "--recipe", "two.yaml", *settings)
    assert trained.exit_code == 0, trained.stderr
    assert "counts as 0" not in trained.stderr


def test_an_evaluation_dataset_of_another_scheme_is_refused_before_training() -> None:
    write(THREE, 60, "train.csv")
    write(("negative", "positive"), 60)
    Path("two.yaml").write_text(RECIPE)
    section = "evaluation_dataset={name: files, test: test.csv}"
    words = ("train", "--recipe", "two.yaml", "--output", "runs/two", "--set")
    refused = run(*words, section)
    assert refused.exit_code == 2
    assert "evaluation_dataset.label_map={'negative': CLASS, 'positive': CLASS}" in refused.stderr
    assert not Path("runs/two").exists()
    stated = run(*words, section.replace("}", ", labels: neg_neu_pos}"))
    assert stated.exit_code == 0, stated.stderr


def test_members_of_different_schemes_are_refused() -> None:
    recorded(FIVE_CLASSES, 60)
    Path("recorded.jsonl").rename("five.jsonl")
    recorded(THREE, 60)
    for words in (
        ("cascade", "five.jsonl", "recorded.jsonl", "--threshold", "0.5"),
        ("vote", "five.jsonl", "recorded.jsonl"),
        ("compare", "five.jsonl", "recorded.jsonl"),
    ):
        refused = run(*words)
        assert refused.exit_code == 2
        assert "has the classes" in refused.stderr
        assert "Give only runs with the same classes" in refused.stderr


def test_a_labelled_table_of_a_five_label_model_is_read_with_its_five_classes() -> None:
    shares = ("probability_very negative", "probability_negative", "probability_neutral")
    columns = ["text", "predicted_label", *shares]
    columns += ["probability_positive", "probability_very positive"]
    rows = ["I love it,very positive,0.05,0.05,0.1,0.2,0.6", "No,negative,0.1,0.5,0.2,0.1,0.1"]
    Path("labelled.csv").write_text("\n".join([",".join(columns), *rows]) + "\n")
    loaded = toolkit.load("labelled.csv")
    assert loaded.labels == FIVE_CLASSES
    assert loaded.predict(["I love it", "No"]) == ["very positive", "negative"]
    assert repr(loaded) == f"<RecordedClassifier 'labelled.csv': {', '.join(FIVE_CLASSES)}>"


def test_a_labelled_table_of_own_classes_needs_no_gold_labels() -> None:
    Path("labelled.csv").write_text(
        "text,predicted_label,probability_anger,probability_joy,probability_no emotion\n"
        "Fine,joy,0.1,0.8,0.1\n"
    )
    assert toolkit.load("labelled.csv").labels == ("anger", "joy", "no emotion")


def test_five_labels_without_probabilities_or_gold_labels_are_five_classes() -> None:
    Path("labelled.csv").write_text("text,predicted_label\nGood,very positive\nBad,negative\n")
    assert toolkit.load("labelled.csv").labels == FIVE_CLASSES
