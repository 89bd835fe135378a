"""Scores agree with scikit-learn, and calibration means what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from sentikit.scoring import calibration, score, score_by_source

CLASSES = ("negative", "neutral", "positive")
answers = st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 2)), min_size=1, max_size=60)


@given(answers)
def test_scores_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    scores = score(gold, predicted, CLASSES)
    options = {"labels": [0, 1, 2], "zero_division": 0}
    assert scores.macro_f1 == pytest.approx(f1_score(gold, predicted, average="macro", **options))
    assert scores.accuracy == pytest.approx(accuracy_score(gold, predicted))
    assert scores.invalid == (predicted == -1).sum()
    expected = confusion_matrix(gold, predicted, labels=[0, 1, 2, -1])[:3]
    counted = [[row[name] for name in (*CLASSES, "invalid")] for row in scores.confusion.values()]
    assert counted == expected.tolist()


def test_an_invalid_answer_is_wrong_and_adds_no_class() -> None:
    scores = score(np.array([0, 1, 2]), np.array([0, 1, -1]), CLASSES)
    assert scores.macro_f1 == pytest.approx(2 / 3)
    assert scores.per_class["positive"].recall == 0


def test_sources_are_scored_apart_and_unknown_ones_left_out() -> None:
    gold, predicted = np.array([0, 1, 2, 0]), np.array([0, 1, 0, 1])
    by_source = score_by_source(gold, predicted, ["a", "a", "b", None], CLASSES)
    assert {name: s.examples for name, s in by_source.items()} == {"a": 2, "b": 1}
    assert by_source["a"].accuracy == 1
    assert by_source["b"].accuracy == 0


def test_calibration_of_a_sure_and_half_right_classifier() -> None:
    gold = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1]] * 4)
    measured = calibration(gold, probabilities)
    assert measured.ece == pytest.approx(0.4)
    assert measured.negative_log_likelihood == pytest.approx(log_loss(gold, probabilities))
    assert measured.brier == pytest.approx((2 * 0.02 + 2 * 1.62) / 4)
    assert measured.bins == ({"examples": 4, "confidence": pytest.approx(0.9), "accuracy": 0.5},)
