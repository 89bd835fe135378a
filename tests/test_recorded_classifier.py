"""Recorded answers as a classifier: found by text, with what they cost and who advised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ensemble_runs import sure, write_results

from sentikit import InputError, read_run
from sentikit.chat import Usage
from sentikit.classifiers.cascade import Cascade
from sentikit.classifiers.classifier import Example
from sentikit.runs.recorded import RecordedClassifier


def recorded(path: str | Path) -> RecordedClassifier:
    return RecordedClassifier(read_run(path))


def test_every_text_has_its_recorded_prediction_in_any_order(tmp_path: Path) -> None:
    rows = [(f"text {n}", "neutral", ["negative", "positive", None][n % 3]) for n in range(30)]
    shares = [sure(label or "neutral", 0.8) for _, _, label in rows]
    classifier = recorded(write_results(tmp_path / "a.jsonl", rows, shares, [0.5] * 30))
    assert classifier.labels == ("negative", "neutral", "positive")
    found = list(classifier.classify(text for text, *_ in reversed(rows)))
    assert [p.label for p in found] == [label for *_, label in reversed(rows)]
    assert (found[1].cost, found[1].paid, found[1].certainty) == (0.5, 0.0, pytest.approx(0.8))


def test_a_recorded_classifiers_fingerprint_depends_on_its_answers(tmp_path: Path) -> None:
    rows = [(f"text {n}", "neutral", "positive") for n in range(3)]
    described = [
        recorded(write_results(tmp_path / name, given)).describe()
        for name, given in (
            ("a.jsonl", rows),
            ("b.jsonl", rows),
            ("c.jsonl", [*rows[:2], ("text 2", "neutral", "negative")]),
        )
    ]
    assert described[0] == described[1] != described[2]


def test_repeated_texts_get_their_recorded_rows_by_id_or_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    labels = {"x": "negative", "y": "neutral", "z": "positive"}
    lines = [json.dumps({"id": i, "text": "same", "label": labels[i]}) for i in labels]
    path.write_text("\n".join(lines))
    classifier = recorded(path)
    assert classifier.predict(["same"] * 4) == ["negative", "neutral", "positive", "positive"]
    asked = [Example("same", i) for i in "zxy"]
    assert classifier.predict(asked) == ["positive", "negative", "neutral"]


def test_rows_that_repeat_both_id_and_text_answer_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [("x", "negative"), ("y", "neutral"), ("x", "positive"), ("y", "neutral")]
    path.write_text(
        "\n".join(json.dumps({"id": i, "text": "same", "label": label}) for i, label in rows)
    )
    asked = [Example("same", i) for i, _ in rows]
    assert recorded(path).predict(asked) == [label for _, label in rows]
    assert recorded(path).predict([*asked, asked[0]])[-1] == "positive"


def test_texts_without_an_exact_match_are_matched_ignoring_case_and_space(tmp_path: Path) -> None:
    rows = [("Good  food", "positive", "positive"), ("good food", "positive", "neutral")]
    classifier = recorded(write_results(tmp_path / "a.jsonl", rows))
    assert classifier.predict(["good food", "Good  food"]) == ["neutral", "positive"]
    assert classifier.predict(["GOOD FOOD"]) == ["positive"]


def test_a_text_that_is_not_recorded_is_named(tmp_path: Path) -> None:
    classifier = recorded(write_results(tmp_path / "a.jsonl", [("one", "neutral", "neutral")]))
    with pytest.raises(InputError, match=r"no row for the text 'two' \(id '7'\)"):
        classifier.predict([Example("two", "7")])


def test_a_row_without_probabilities_among_others_has_no_confidence(tmp_path: Path) -> None:
    rows = [("one", "neutral", "neutral"), ("two", "neutral", "neutral")]
    first = write_results(tmp_path / "a.jsonl", rows, [sure("neutral", 0.9), None])
    last = write_results(tmp_path / "b.jsonl", [(t, g, "positive") for t, g, _ in rows])
    cascade = Cascade({"a": recorded(first), "b": recorded(last)}, [0.5])
    assert cascade.predict(["one", "two"]) == ["neutral", "positive"]


def test_tokens_and_adviser_predictions_of_a_recorded_llm_are_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    classes = ["negative", "neutral", "positive"]
    manifest = {"kind": "prompt", "status": "finished", "classes": classes}
    (run / "manifest.json").write_text(json.dumps(manifest))
    shares = dict(zip(classes, [0.1, 0.6, 0.3], strict=True))
    adviser = {"label": "neutral", "probabilities": shares}
    row = {
        "id": "1",
        "text": "one",
        "gold": None,
        "label": "positive",
        "probabilities": None,
        "source": None,
        "answer": "Positive.",
        "cost": 0.25,
        "encoder": adviser,
        "usage": {"prompt": 10, "cached": 2, "completion": 3},
    }
    (run / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    (found,) = recorded(run).classify(["one"])
    assert (found.answer, found.cost, found.usage) == ("Positive.", 0.25, Usage(10, 2, 3))
    assert found.adviser is not None
    assert found.adviser.probabilities == shares
    assert recorded(f"{run}#encoder").predict(["one"]) == ["neutral"]


def test_a_cascade_of_recorded_classifiers_reproduces_the_study(shared_data: Path) -> None:
    first = read_run(shared_data / "recorded" / "E3-G4OM-EBFT.csv#encoder")
    last = read_run(shared_data / "recorded" / "B3-G4OM.csv")
    cascade = Cascade(
        {"first": RecordedClassifier(first), "last": RecordedClassifier(last)}, [0.80]
    )
    examples = (
        Example(text, identifier)
        for text, identifier in zip(last.examples.texts, last.examples.ids, strict=True)
    )
    found = list(cascade.classify(examples))
    asked = sum(prediction.answered_by == "last" for prediction in found)
    assert round(100 * asked / len(found), 1) == 21.9
    from sklearn.metrics import f1_score

    numbers = [cascade.labels.index(p.label) if p.label else -1 for p in found]
    assert f1_score(last.gold, numbers, average="macro", labels=[0, 1, 2]) == pytest.approx(
        0.8234, abs=5e-5
    )
