"""Scores of predictions: overall, by class, by source, and of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.metrics import NamedMetric, installed_metrics

CALIBRATION_BINS = 15
#: Number of points in a ROC or precision-recall curve.
CURVE_POINTS = 60


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class as fractions, and its number of gold examples."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Calibration:
    """The calibration of probabilities.

    Attributes:
        ece: expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599), over
            equally wide bins of the top probability.
        negative_log_likelihood: mean over the examples, in nats.
        brier: mean squared distance between probabilities and the gold class.
        bins: number of examples, mean confidence and accuracy of each bin.
    """

    ece: float
    negative_log_likelihood: float
    brier: float
    bins: tuple[dict[str, float], ...]


#: Points of a curve, from left to right.
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ClassRanking:
    """How well the probability of one class separates its examples from all others.

    Attributes:
        auc: area under the ROC curve; None if all examples or none belong to the class.
        average_precision: mean precision over the thresholds, weighted by the gain in recall.
        roc: false positive rate to true positive rate.
        precision_recall: recall to precision.
    """

    auc: float | None
    average_precision: float | None
    roc: Curve = ()
    precision_recall: Curve = ()


@dataclass(frozen=True)
class Ranking:
    """How well probabilities rank, each class against all others.

    Attributes:
        auc: unweighted mean over the classes that have one.
        average_precision: unweighted mean over the classes that have one.
        per_class: class to its ranking.
    """

    auc: float | None
    average_precision: float | None
    per_class: dict[str, ClassRanking]


@dataclass(frozen=True)
class Scores:
    """Scores of a set of predictions, as fractions.

    Attributes:
        examples: number of scored examples.
        macro_f1: unweighted mean of F1 over all classes; a class that never occurs counts as 0.
        accuracy: share of right answers; an invalid answer is wrong.
        invalid: number of invalid answers.
        per_class: class to its scores.
        confusion: gold class to predicted class (or ``invalid``) to count.
        calibration: None without probabilities.
        ranking: None without probabilities.
        metrics: name to value of plugins' metrics.
    """

    examples: int
    macro_f1: float
    accuracy: float
    invalid: int
    per_class: dict[str, ClassScores]
    confusion: dict[str, dict[str, int]]
    calibration: Calibration | None
    ranking: Ranking | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def confusion_counts(
    gold: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Count gold (rows) against predicted (columns); the last column is invalid answers (-1)."""
    columns = np.where(predicted < 0, classes, predicted)
    cells = np.bincount(gold * (classes + 1) + columns, minlength=classes * (classes + 1))
    return cells.reshape(classes, classes + 1)


def class_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 by class from (…, classes, classes + 1) confusion counts; 0 where undefined."""
    square = counts[..., :-1]
    right = np.diagonal(square, axis1=-2, axis2=-1)
    total = square.sum(-2) + counts.sum(-1)
    scores = np.zeros(right.shape)
    np.divide(2 * right, total, out=scores, where=total > 0)
    return scores


def macro_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return macro-F1 from (…, classes, classes + 1) confusion counts."""
    return np.asarray(class_f1(counts).mean(-1))


def score(
    gold: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: Sequence[str],
    probabilities: NDArray[np.float64] | None = None,
    metrics: Sequence[NamedMetric] | None = None,
) -> Scores:
    """Score predicted class numbers, of which -1 is an invalid answer.

    Rows of NaN in `probabilities`, (examples, classes), are left out. By default, `metrics` are all
    installed ones that suit the classes.
    """
    counts = confusion_counts(gold, predicted, len(classes))
    if metrics is None:
        metrics = installed_metrics(tuple(classes))
    right = int(np.trace(counts[:, :-1]))
    names = [*classes, "invalid"]
    if probabilities is None:
        probabilities = np.empty((0, len(classes)))
    known = np.flatnonzero(~np.isnan(probabilities).any(1))
    return Scores(
        examples=len(gold),
        macro_f1=float(macro_f1(counts)),
        accuracy=right / max(1, len(gold)),
        invalid=int(counts[:, -1].sum()),
        per_class=_per_class(counts, classes),
        confusion={
            name: dict(zip(names, counts[i].tolist(), strict=True))
            for i, name in enumerate(classes)
        },
        calibration=calibration(gold[known], probabilities[known]) if len(known) else None,
        ranking=ranking(gold[known], probabilities[known], classes) if len(known) else None,
        metrics={own.name: float(own.score(counts, tuple(classes))) for own in metrics},
    )


def _per_class(counts: NDArray[np.int64], classes: Sequence[str]) -> dict[str, ClassScores]:
    right, support = np.diagonal(counts), counts.sum(1)
    answered = counts.sum(0)[:-1]
    columns = (
        right / np.maximum(answered, 1),
        right / np.maximum(support, 1),
        class_f1(counts),
        support,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {name: ClassScores(*row) for name, row in zip(classes, rows, strict=True)}


def score_by_source(
    gold: NDArray[np.int64],
    predicted: NDArray[np.int64],
    sources: Sequence[str | None],
    classes: Sequence[str],
    probabilities: NDArray[np.float64] | None = None,
    metrics: Sequence[NamedMetric] | None = None,
) -> dict[str, Scores]:
    """Score each source separately; examples without a source are left out."""
    names = np.array([source or "" for source in sources], dtype=object)
    scores = {}
    for name in sorted({source for source in sources if source}):
        rows = np.flatnonzero(names == name)
        chosen = None if probabilities is None else probabilities[rows]
        own = score(gold[rows], predicted[rows], classes, chosen, metrics)
        scores[name] = without_curves(own)
    return scores


def without_curves(scores: Scores) -> Scores:
    """Return scores without the points of the curves."""
    if scores.ranking is None:
        return scores
    plain = {
        name: ClassRanking(own.auc, own.average_precision)
        for name, own in scores.ranking.per_class.items()
    }
    return replace(scores, ranking=replace(scores.ranking, per_class=plain))


def ranking(
    gold: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> Ranking:
    per_class = {
        name: _class_ranking(gold == number, probabilities[:, number])
        for number, name in enumerate(classes)
    }
    aucs = [own.auc for own in per_class.values()]
    precisions = [own.average_precision for own in per_class.values()]
    return Ranking(_mean(aucs), _mean(precisions), per_class)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _class_ranking(of_class: NDArray[np.bool_], scores: NDArray[np.float64]) -> ClassRanking:
    order = np.argsort(-scores, kind="stable")
    # Equal probabilities are one threshold.
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    found = np.cumsum(of_class[order])[last].astype(np.float64)
    answered = last + 1.0
    total, others = float(of_class.sum()), float((~of_class).sum())
    if not total or not others:
        return ClassRanking(None, None)
    recall, precision = found / total, found / answered
    across = np.r_[0.0, (answered - found) / others]
    up = np.r_[0.0, recall]
    return ClassRanking(
        auc=float(((up[1:] + up[:-1]) / 2 * np.diff(across)).sum()),
        average_precision=float((np.diff(recall, prepend=0.0) * precision).sum()),
        roc=_points(across, up),
        precision_recall=_points(recall, precision),
    )


def _points(across: NDArray[np.float64], up: NDArray[np.float64]) -> Curve:
    """Return points of a curve, evenly spaced along its length."""
    length = np.r_[0.0, np.cumsum(np.hypot(np.diff(across), np.diff(up)))]
    wanted = np.linspace(0.0, length[-1], CURVE_POINTS)
    rows = np.unique(np.searchsorted(length, wanted).clip(0, len(length) - 1))
    return tuple(zip(across[rows].round(5).tolist(), up[rows].round(5).tolist(), strict=True))


def calibration(gold: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Calibration:
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
