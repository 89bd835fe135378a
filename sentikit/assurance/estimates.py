"""Estimates with intervals: class shares, accuracy and macro-F1, from checked texts.

All intervals are for *this* pile, not for a population it might be drawn from: the variance has the
factor 1 − n/N, which is 0 once every row is checked.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentikit.assurance.certificates import check_rate, lower_bound, upper_bound
from sentikit.errors import InputError
from sentikit.scoring import macro_f1

if TYPE_CHECKING:
    from sentikit.datasets.labels import LabelScheme
    from sentikit.datasets.tables import InputFile

#: With fewer positives or negatives, or fewer texts whose class the classifier has wrong, an
#: interval is exact, because a normal one would be too narrow. Chosen on validation.
FEW, FEW_SURPRISES = 5, 3
_RESAMPLES = 2000
#: Strata of confidence, chosen on validation for the narrowest interval of accuracy.
STRATA = 8
#: Probabilities with less variation carry no information.
_SAME = 1e-9

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """The labels of a pile.

    Attributes:
        classes: names of the classes.
        labels: class numbers; -1 for a row without a label.
        confidence: of the label; NaN for a row without one.
        probabilities: (rows, classes); one-hot if a classifier gives none.
    """

    #: Assumed accuracy of a label without probabilities. Chosen, with the weight 1 of
    #: log-probabilities, on validation predictions: ELECTRA Large's probabilities, Base's labels.
    ASSUMED_ACCURACY: ClassVar[float] = 0.8

    classes: tuple[str, ...]
    labels: NDArray[np.int16]
    confidence: NDArray[np.float64]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class LabelledTable:
    """A table that `label` or `predict` wrote.

    Attributes:
        source: the file.
        labels: the labels of its rows.
        groups: the group of each row, by column.
        rows: number of rows.
    """

    source: InputFile
    labels: Labels
    groups: Mapping[str, list[str]]
    rows: int

    @property
    def scheme(self) -> LabelScheme:
        """The label scheme of the classes."""
        from sentikit.datasets.labels import scheme_for_classes

        return scheme_for_classes(self.labels.classes)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end of the interval.
        level: coverage of the interval.
        name: the quantity: a class number, accuracy or macro_f1.
        group: the group of rows; None for all.
        raw: the classifier's uncorrected value, or None.
        checked: number of checked texts.
        standard_error: of the value; None for an exact interval.
    """

    value: float
    low: float
    high: float
    level: float
    name: str | int
    group: Hashable | None = None
    raw: float | None = None
    checked: int = 0
    standard_error: float | None = None


class AccuracyEstimate(NamedTuple):
    """Accuracy and macro-F1 of a pile's labels."""

    accuracy: Estimate
    macro_f1: Estimate


def estimate_shares(
    pile_probabilities: ArrayLike,
    checked_probabilities: ArrayLike,
    checked_labels: ArrayLike,
    *,
    level: float = 0.95,
    checked_weights: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    checked_groups: Sequence[Hashable] | None = None,
) -> list[Estimate]:
    """Estimate the share of each class in a pile, corrected by checked texts.

    This is prediction-powered inference (PPI++, arXiv 2311.01453) for a finite pile. With Y the
    indicator of a class on the n checked texts, f its probability and f̄ the mean of f over the
    whole pile,

        θ = f̄·λ + mean(Y − f·λ),   λ = Cov(Y, f)/Var f,   Var θ = (1 − n/N)·Var(Y − f·λ)/n.

    λ is not clipped, because a classifier that is wrong more often than chance is informative too.
    f is the vector of all classes' probabilities but one, weighted by least squares; the residuals
    have n − rank degrees of freedom, and the interval is Student's t. With weights w, each mean
    over checked texts is weighted and the variance is that of a ratio, Σ w²e²/(Σ w)².
    With fewer than five positives or negatives, or fewer than three texts for which the classifier
    has the class wrong, the interval is exact, so that its width is never 0.

    Args:
        pile_probabilities: (rows, classes) of the whole pile, checked rows included; one-hot labels
            if there are no probabilities.
        checked_probabilities: (checked, classes).
        checked_labels: the true class of each checked text, as a number.
        level: coverage of the intervals.
        checked_weights: proportional to 1/(inclusion probability), unless the draw was uniform.
        groups: the group of each row of the pile, to estimate every group.
        checked_groups: the group of each checked text.

    Returns:
        One estimate per class; with groups, per group and class, in the order of first rows.

    Raises:
        InputError: the shapes do not fit, or a group has no checked text.
    """
    check_rate("level", level)
    pile = _probabilities("pile_probabilities", pile_probabilities)
    drawn = _probabilities("checked_probabilities", checked_probabilities)
    labels = np.asarray(checked_labels, np.int64)
    if drawn.shape != (len(labels), pile.shape[1]):
        raise InputError(
            f"checked_probabilities has the shape {drawn.shape}; {len(labels)} checked labels and "
            f"{pile.shape[1]} classes need ({len(labels)}, {pile.shape[1]})."
        )
    if len(labels) > len(pile) or not len(labels):
        raise InputError(f"{len(labels)} texts are checked of a pile of {len(pile)}.")
    if labels.min() < 0 or labels.max() >= pile.shape[1]:
        raise InputError(f"checked_labels must be from 0 to {pile.shape[1] - 1}.")
    weights = _weights(checked_weights, len(labels))
    if groups is None:
        return _shares(pile, drawn, labels, weights, level, None)
    if checked_groups is None or len(groups) != len(pile) or len(checked_groups) != len(labels):
        raise InputError("groups must have one group per row, checked_groups one per check.")
    found = []
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    of_rows = np.fromiter((codes[group] for group in groups), np.int64, len(pile))
    of_checks = np.fromiter((codes.get(g, -1) for g in checked_groups), np.int64, len(labels))
    for group, code in codes.items():
        rows, checks = of_rows == code, of_checks == code
        if not checks.any():
            raise InputError(f"The group {group!r} has no checked text. Merge it with another.")
        own = weights[checks]
        found += _shares(pile[rows], drawn[checks], labels[checks], own, level, group)
    return found


def _shares(
    pile: Floats,
    drawn: Floats,
    labels: Integers,
    weights: Floats,
    level: float,
    group: Hashable | None,
) -> list[Estimate]:
    rows, n = len(pile), len(labels)
    effective = weights.sum() ** 2 / (weights**2).sum()
    found = []
    for number in range(pile.shape[1]):
        is_class = (labels == number).astype(np.float64)
        raw = float(pile[:, number].mean())
        value, residuals, rank = _regression(pile, drawn, is_class, weights)
        value = min(1.0, max(0.0, value))
        exact = _exact_share(pile, drawn, is_class, weights, level, number, int(effective))
        if exact is not None:
            low, high = exact
            value = min(high, max(low, value))
            found.append(Estimate(value, low, high, level, number, group, raw, n))
            continue
        freedom = max(1, n - rank)
        variance = (weights**2 * residuals**2).sum() / weights.sum() ** 2 * n / freedom
        error = math.sqrt(max(0.0, (1 - min(1.0, effective / rows)) * variance))
        reach = _student(level, freedom) * error
        # The share cannot be below the checked positives, nor above all rows not found negative.
        positives = int(is_class.sum())
        least, most = positives / rows, (rows - n + positives) / rows
        value = min(most, max(least, value))
        low, high = max(least, value - reach), min(most, value + reach)
        found.append(Estimate(value, low, high, level, number, group, raw, n, error))
    return found


def _regression(
    pile: Floats, drawn: Floats, is_class: Floats, weights: Floats
) -> tuple[float, Floats, int]:
    """Return the regression estimate of a mean over the pile, the residuals and the rank."""
    shares = weights / weights.sum()
    varies = drawn[:, 1:].std(axis=0) > _SAME  # the first class's is 1 less the others
    features, of_pile = drawn[:, 1:][:, varies], pile[:, 1:][:, varies]
    centre, mean = shares @ features, float(shares @ is_class)
    root = np.sqrt(shares)
    if not varies.any() or len(is_class) <= 2 * features.shape[1] + 2:
        return mean, is_class - mean, 1
    slopes, _, rank, _ = np.linalg.lstsq(
        root[:, None] * (features - centre), root * (is_class - mean), rcond=1e-10
    )
    value = mean + float((of_pile.mean(axis=0) - centre) @ slopes)
    return value, is_class - mean - (features - centre) @ slopes, int(rank) + 1


def _exact_share(
    pile: Floats,
    drawn: Floats,
    is_class: Floats,
    weights: Floats,
    level: float,
    number: int,
    effective: int,
) -> tuple[float, float] | None:
    """Return an exact interval if a normal one would be based on very few texts, else None.

    With few positives or negatives, it is Clopper and Pearson's for their number. With few errors
    of the classifier, it is the classifier's share plus its false negatives minus its false
    positives, each within its exact interval at half the risk.
    """
    rows, n, tail, shares = len(pile), len(is_class), (1 - level) / 2, weights / weights.sum()
    checked, positives = min(n, max(1, effective)), int(is_class.sum())
    if min(positives, n - positives) < FEW:
        return _bounds(round(checked * float(shares @ is_class)), checked, rows, tail)
    predicted = drawn.argmax(axis=1) == number
    missed, false = (is_class == 1) & ~predicted, (is_class == 0) & predicted
    if missed.sum() + false.sum() >= FEW_SURPRISES:
        return None
    base = float((pile.argmax(axis=1) == number).mean())
    of_missed = _bounds(round(checked * float(shares @ missed)), checked, rows, tail / 2)
    of_false = _bounds(round(checked * float(shares @ false)), checked, rows, tail / 2)
    low, high = base + of_missed[0] - of_false[1], base + of_missed[1] - of_false[0]
    return max(0.0, low), min(1.0, high)


def _bounds(count: int, checked: int, rows: int, tail: float) -> tuple[float, float]:
    return lower_bound(count, checked, rows, tail), upper_bound(count, checked, rows, tail)


def estimate_accuracy(
    pile_labels: ArrayLike,
    pile_confidence: ArrayLike,
    checked_rows: ArrayLike,
    checked_labels: ArrayLike,
    *,
    level: float = 0.95,
    checked_weights: ArrayLike | None = None,
) -> AccuracyEstimate:
    """Estimate the accuracy and macro-F1 of a pile's labels from checked rows.

    The pile is divided into `confidence_strata`; all rows of a stratum are equally likely to be
    checked, unless weights say otherwise. With W_h the share of the pile in stratum h,

        A = Σ W_h·p_h,   Var A = Σ W_h²·(1 − n_h/N_h)·p_h(1 − p_h)/(n_h − 1).

    Strata with fewer than two checks are merged with a neighbour. The interval of accuracy is
    Student's t; that of macro-F1 is a bootstrap within the strata (percentiles of 2,000 resamples
    with a fixed seed) of the F1 of weighted confusion counts.

    Args:
        pile_labels: class number of each row; -1 without a label, which counts as wrong.
        pile_confidence: confidence of each row.
        checked_rows: row numbers of the checked texts.
        checked_labels: their true classes.
        level: coverage of the intervals.
        checked_weights: proportional to 1/(inclusion probability), unless the draw was uniform or
            stratified by confidence.

    Raises:
        InputError: the shapes do not fit, or a row is checked twice.
    """
    check_rate("level", level)
    labels = np.asarray(pile_labels, np.int64)
    confidence = np.asarray(pile_confidence, np.float64)
    rows, truth = np.asarray(checked_rows, np.int64), np.asarray(checked_labels, np.int64)
    if labels.shape != confidence.shape or rows.shape != truth.shape or not len(rows):
        raise InputError("Give one confidence per label of the pile, one label per checked row.")
    if len(np.unique(rows)) < len(rows) or rows.min() < 0 or rows.max() >= len(labels):
        raise InputError("checked_rows must be different rows of the pile, counted from 0.")
    weights = _weights(checked_weights, len(rows))
    strata = _merged_strata(confidence_strata(confidence), rows)
    correct = (labels[rows] == truth).astype(np.float64)
    classes = int(max(labels.max(), truth.max())) + 1
    parts = []
    for number in range(strata.max() + 1):
        own = strata[rows] == number
        predicted, size = labels[rows[own]], int((strata == number).sum())
        parts.append(_stratum(size, len(labels), predicted, truth[own], weights[own]))
    value = sum(part.share * part.accuracy for part in parts)
    if min(correct.sum(), len(rows) - correct.sum()) < FEW:
        error = None
        effective = max(1, int(weights.sum() ** 2 / (weights**2).sum()))
        low, high = _bounds(round(effective * value), effective, len(labels), (1 - level) / 2)
    else:
        error = math.sqrt(sum(part.share**2 * part.variance for part in parts))
        reach = _student(level, max(1, len(rows) - len(parts))) * error
        low, high = max(0.0, value - reach), min(1.0, value + reach)
    accuracy = Estimate(
        value, low, high, level, "accuracy", checked=len(rows), standard_error=error
    )
    return AccuracyEstimate(accuracy, _macro_f1(parts, classes, level, len(rows)))


def confidence_strata(confidence: Floats, strata: int = STRATA) -> Integers:
    """Return the stratum of each row: equal shares of the pile by confidence, lowest first."""
    ranks = np.empty(len(confidence), np.int64)
    order = np.argsort(np.where(np.isnan(confidence), -np.inf, confidence), kind="stable")
    ranks[order] = np.arange(len(confidence))
    return ranks * strata // max(1, len(confidence))


@dataclass(frozen=True)
class _Stratum:
    """A stratum with its checks: accuracy, its variance, and the input of a bootstrap.

    `pairs` are the predicted and true class of each check; `weights` are their weights, which sum
    to 1; `spread` scales resampled weights for the finite pile and the lost degree of freedom.
    """

    share: float
    accuracy: float
    variance: float
    pairs: Integers
    weights: Floats
    spread: float


def _stratum(
    size: int, rows: int, predicted: Integers, truth: Integers, weights: Floats
) -> _Stratum:
    n, own = len(predicted), weights / weights.sum()
    accuracy = float(own @ (predicted == truth))
    kept = max(0.0, 1 - n / size)
    effective = 1 / float((own**2).sum())
    variance = kept * accuracy * (1 - accuracy) / max(1.0, effective - 1)
    spread = math.sqrt(kept * n / max(1, n - 1))
    return _Stratum(size / rows, accuracy, variance, np.stack([predicted, truth], 1), own, spread)


def _merged_strata(strata: Integers, rows: Integers) -> Integers:
    """Merge strata with fewer than two checks with the next one, the last with its predecessor."""
    counts = np.bincount(strata[rows], minlength=int(strata.max()) + 1)
    names, current, held = np.zeros(len(counts), np.int64), 0, 0
    for number, count in enumerate(counts):
        names[number] = current
        held += count
        if held >= 2 and counts[number + 1 :].sum() >= 2:
            current, held = current + 1, 0
    return names[strata]


def _macro_f1(parts: list[_Stratum], classes: int, level: float, checked: int) -> Estimate:
    random = np.random.default_rng(0)
    width = classes + 1  # the last column is for rows without a label
    total = np.zeros((1, classes * width))
    resampled = np.zeros((_RESAMPLES, classes * width))
    for part in parts:
        predicted, truth = part.pairs.T
        n = len(predicted)
        drawn = random.multinomial(n, np.full(n, 1 / n), _RESAMPLES) * part.weights
        drawn = drawn / np.maximum(drawn.sum(axis=1, keepdims=True), 1e-300)
        drawn = part.weights + part.spread * (drawn - part.weights)
        member = np.zeros((n, classes * width))
        member[np.arange(n), truth * width + predicted % width] = part.share
        total += part.weights @ member
        resampled += drawn @ member
    # With few checked rows, the weight of a rarely drawn row may become negative.
    (value,) = np.clip(macro_f1(total.reshape(-1, classes, width)), 0, 1)
    scores = np.clip(macro_f1(resampled.reshape(-1, classes, width)), 0, 1)
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high), level, "macro_f1", checked=checked)


def _student(level: float, freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, freedom))


def _probabilities(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or array.shape[1] < 2:
        raise InputError(
            f"{name} must have one row per text and one column per class, not {array.shape}."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name} contains a value that is not a finite number.")
    return array


def _weights(values: ArrayLike | None, n: int) -> Floats:
    if values is None:
        return np.ones(n)
    weights = np.asarray(values, np.float64)
    if weights.shape != (n,) or not np.isfinite(weights).all() or (weights <= 0).any():
        raise InputError("checked_weights must be one positive number per checked text.")
    return weights


@dataclass(frozen=True)
class Estimates:
    """The estimates of a labelled table.

    Attributes:
        shares: the share of each class.
        by_group: column to the estimates of each group.
        accuracy: accuracy and macro-F1 of the labels.
        differences: differences between groups, with Holm-adjusted p-values.
        warnings: sentences on the limits of the estimates.
    """

    classes: tuple[str, ...]
    shares: list[Estimate]
    by_group: Mapping[str, list[Estimate]]
    accuracy: AccuracyEstimate
    differences: list[dict[str, Any]]
    warnings: list[str]
