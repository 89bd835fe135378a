"""Scores of labelled texts: macro-F1, accuracy, per class, confusion, calibration, by source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class as fractions, and how many gold examples it has."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from accuracy.

    Attributes:
        ece: expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599), over
            equally wide bins of the top probability.
        negative_log_likelihood: mean over the examples, in nats.
        brier: mean squared distance between probabilities and the gold class.
        bins: per bin its examples, mean confidence and accuracy.
    """

    ece: float
    negative_log_likelihood: float
    brier: float
    bins: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class Scores:
    """What a set of predictions is worth; all scores are fractions.

    Attributes:
        examples: how many were scored.
        macro_f1: unweighted mean of F1 over all classes; one that nobody names counts 0.
        accuracy: share of right answers; an invalid answer is wrong.
        invalid: examples without a valid answer.
        per_class: class to its scores.
        confusion: gold class to predicted class (or ``invalid``) to count.
        calibration: where probabilities are known.
    """

    examples: int
    macro_f1: float
    accuracy: float
    invalid: int
    per_class: dict[str, ClassScores]
    confusion: dict[str, dict[str, int]]
    calibration: Calibration | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``metrics.json``."""
        return asdict(self)


def confusion_counts(
    gold: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Count gold (rows) against predicted (columns); the last column is invalid answers (-1)."""
    columns = np.where(predicted < 0, classes, predicted)
    cells = np.bincount(gold * (classes + 1) + columns, minlength=classes * (classes + 1))
    return cells.reshape(classes, classes + 1)


def class_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F1 by class from (…, classes, classes + 1) confusion counts; 0 where undefined."""
    square = counts[..., :-1]
    right = np.diagonal(square, axis1=-2, axis2=-1)
    total = square.sum(-2) + counts.sum(-1)
    scores = np.zeros(right.shape)
    np.divide(2 * right, total, out=scores, where=total > 0)
    return scores


def macro_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return macro-F1 from (…, classes, classes + 1) confusion counts."""
    return np.asarray(class_f1(counts).mean(-1))


def score(
    gold: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: Sequence[str],
    probabilities: NDArray[np.float64] | None = None,
) -> Scores:
    """Score predictions.

    Args:
        gold: class numbers, (examples,).
        predicted: class numbers, -1 where the answer is invalid.
        classes: class names.
        probabilities: (examples, classes), where known.
    """
    counts = confusion_counts(gold, predicted, len(classes))
    right = int(np.trace(counts[:, :-1]))
    names = [*classes, "invalid"]
    return Scores(
        examples=len(gold),
        macro_f1=float(macro_f1(counts)),
        accuracy=right / max(1, len(gold)),
        invalid=int(counts[:, -1].sum()),
        per_class={name: _class_scores(counts, i) for i, name in enumerate(classes)},
        confusion={
            name: dict(zip(names, counts[i].tolist(), strict=True))
            for i, name in enumerate(classes)
        },
        calibration=None if probabilities is None else calibration(gold, probabilities),
    )


def _class_scores(counts: NDArray[np.int64], number: int) -> ClassScores:
    right = int(counts[number, number])
    answered, support = int(counts[:, number].sum()), int(counts[number].sum())
    return ClassScores(
        precision=right / answered if answered else 0.0,
        recall=right / support if support else 0.0,
        f1=float(class_f1(counts)[number]),
        support=support,
    )


def score_by_source(
    gold: NDArray[np.int64],
    predicted: NDArray[np.int64],
    sources: Sequence[str | None],
    classes: Sequence[str],
    probabilities: NDArray[np.float64] | None = None,
) -> dict[str, Scores]:
    """Score each source by itself; examples without a source are left out."""
    names = np.array([source or "" for source in sources], dtype=object)
    scores = {}
    for name in sorted({source for source in sources if source}):
        rows = np.flatnonzero(names == name)
        chosen = None if probabilities is None else probabilities[rows]
        scores[name] = score(gold[rows], predicted[rows], classes, chosen)
    return scores


def calibration(gold: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Calibration:
    """Measure calibration of probabilities, (examples, classes)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == gold
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    rows, error = [], 0.0
    for number in range(CALIBRATION_BINS):
        inside = bins == number
        if not inside.any():
            continue
        row = {
            "examples": int(inside.sum()),
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(right[inside].mean()),
        }
        rows.append(row)
        error += row["examples"] / len(gold) * abs(row["confidence"] - row["accuracy"])
    picked = probabilities[np.arange(len(gold)), gold]
    wanted = np.eye(probabilities.shape[1])[gold]
    return Calibration(
        ece=error,
        negative_log_likelihood=float(-np.log(np.maximum(picked, 1e-12)).mean()),
        brier=float(((probabilities - wanted) ** 2).sum(1).mean()),
        bins=tuple(rows),
    )
