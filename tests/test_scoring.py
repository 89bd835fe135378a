"""Scores agree with scikit-learn, and calibration means what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    log_loss,
    roc_auc_score,
)

from sentikit.scoring import CURVE_POINTS, calibration, ranking, score, score_by_source

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


def test_an_invalid_answer_counts_as_wrong_and_adds_no_class() -> None:
    scores = score(np.array([0, 1, 2]), np.array([0, 1, -1]), CLASSES)
    assert scores.macro_f1 == pytest.approx(2 / 3)
    assert scores.per_class["positive"].recall == 0


def test_sources_are_scored_separately_and_unknown_ones_omitted() -> None:
    gold, predicted = np.array([0, 1, 2, 0]), np.array([0, 1, 0, 1])
    by_source = score_by_source(gold, predicted, ["a", "a", "b", None], CLASSES)
    assert {name: s.examples for name, s in by_source.items()} == {"a": 2, "b": 1}
    assert by_source["a"].accuracy == 1
    assert by_source["b"].accuracy == 0


def test_calibration_error_of_an_overconfident_classifier_is_right() -> None:
    gold = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1]] * 4)
    measured = calibration(gold, probabilities)
    assert measured.ece == pytest.approx(0.4)
    assert measured.negative_log_likelihood == pytest.approx(log_loss(gold, probabilities))
    assert measured.brier == pytest.approx((2 * 0.02 + 2 * 1.62) / 4)
    assert measured.bins == ({"examples": 4, "confidence": pytest.approx(0.9), "accuracy": 0.5},)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(1, 5), min_size=3, max_size=3)),
        min_size=2,
        max_size=40,
    )
)
def test_auc_and_average_precision_agree_with_scikit_learn(
    rows: list[tuple[int, list[int]]],
) -> None:
    gold = np.array([own for own, _ in rows])
    weights = np.array([own for _, own in rows], np.float64)
    probabilities = weights / weights.sum(1, keepdims=True)
    measured = ranking(gold, probabilities, CLASSES)
    for number, own in enumerate(measured.per_class.values()):
        positive = gold == number
        if positive.all() or not positive.any():
            assert (own.auc, own.average_precision, own.roc) == (None, None, ())
            continue
        column = probabilities[:, number]
        assert own.auc == pytest.approx(roc_auc_score(positive, column))
        assert own.average_precision == pytest.approx(average_precision_score(positive, column))
        assert own.roc[0] == (0, 0)
        assert own.roc[-1] == (1, 1)
        assert own.precision_recall[-1][0] == 1
    known = [own.auc for own in measured.per_class.values() if own.auc is not None]
    assert measured.auc == (pytest.approx(np.mean(known)) if known else None)


def test_a_curve_of_many_thresholds_is_thinned_evenly() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 5000)
    probabilities = rng.dirichlet([1, 1, 1], 5000)
    own = ranking(gold, probabilities, CLASSES).per_class["neutral"]
    assert 40 < len(own.roc) <= CURVE_POINTS
    steps = np.hypot(*np.diff(np.array(own.roc), axis=0).T)
    assert steps.max() < 0.05


def test_rows_without_probabilities_are_left_out_of_calibration_and_ranking() -> None:
    gold, predicted = np.array([0, 1, 2, 0]), np.array([0, 1, 2, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [np.nan] * 3, [0.4, 0.5, 0.1]])
    scores = score(gold, predicted, CLASSES, probabilities)
    assert scores.examples == 4
    assert scores.calibration == calibration(gold[[0, 1, 3]], probabilities[[0, 1, 3]])
    assert scores.ranking is not None
    assert scores.ranking.per_class["positive"].auc is None
    empty = score(gold, predicted, CLASSES, np.full((4, 3), np.nan))
    assert (empty.calibration, empty.ranking) == (None, None)


def test_scores_by_source_include_areas_but_no_curves() -> None:
    gold = np.array([0, 1, 2] * 4)
    by_source = score_by_source(gold, gold, ["a"] * 12, CLASSES, np.eye(3)[gold] * 0.4 + 0.2)
    own = by_source["a"].ranking
    assert own is not None
    assert own.auc == 1
    assert own.per_class["negative"].roc == ()
