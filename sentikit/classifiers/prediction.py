"""Predictions, their computation from logits, and temperature scaling."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.chat import Usage
from sentikit.datasets.labels import LabelScheme
from sentikit.errors import quoted


@dataclass(frozen=True, slots=True)
class Prediction:
    """A classifier's prediction for one text.

    Attributes:
        label: the predicted class; None without a valid answer.
        probabilities: class to probability, in the order of the classifier's labels, or None.
        confidence: confidence from 0 to 1; None stands for the highest probability.
        cost: USD of the answers used, cached or not; 0 for a classifier without cost; None if the
            price is unknown.
        paid: USD of the answers that this job paid for; None if the price is unknown.
        usage: tokens of the answers, or None.
        answered_by: the member of a cascade or vote that answered, or None.
        answer: the raw answer of an LLM, or None.
        first_answer: the invalid answer before a repair, or None.
        finish_reason: why the LLM stopped, as the server reports it, or None.
        rationale: the reason that an LLM gave before its label, if requested.
        votes: each member's label, in the order of a vote's members.
        adviser: the prediction of the adviser in the prompt, or of a cascade's first member.
        error: why the classifier or a member failed; trying again may help.
    """

    label: str | None
    probabilities: dict[str, float] | None = None
    confidence: float | None = None
    cost: float | None = 0.0
    paid: float | None = 0.0
    usage: Usage | None = None
    answered_by: str | None = None
    answer: str | None = None
    first_answer: str | None = None
    finish_reason: str | None = None
    rationale: str | None = None
    votes: tuple[str | None, ...] | None = None
    adviser: Prediction | None = None
    error: str | None = None

    @property
    def certainty(self) -> float | None:
        """The confidence, else the highest probability, or None."""
        if self.confidence is not None or self.probabilities is None:
            return self.confidence
        return max(self.probabilities.values())

    def of_member(self, name: str) -> Prediction:
        """Return the prediction of an ensemble's member, named in `answered_by` and `error`."""
        answered_by = "/".join(filter(None, (name, self.answered_by)))
        error = f"{name}: {self.error}" if name and self.error is not None else self.error
        return dataclasses.replace(self, answered_by=answered_by, error=error)

    def with_costs_of(self, others: Iterable[Prediction]) -> Prediction:
        """Return the prediction with the costs and usage of others added."""
        cost, paid, usage = self.cost, self.paid, self.usage
        for other in others:
            cost = None if cost is None or other.cost is None else cost + other.cost
            paid = None if paid is None or other.paid is None else paid + other.paid
            if other.usage is not None:
                usage = other.usage if usage is None else usage + other.usage
        return dataclasses.replace(self, cost=cost, paid=paid, usage=usage)

    def in_order_of(self, labels: tuple[str, ...]) -> Prediction:
        """Return the prediction with its probabilities in the order of `labels`."""
        known = self.probabilities
        if known is None or tuple(known) == labels:
            return self
        ordered = {label: known[label] for label in labels}
        return dataclasses.replace(self, probabilities=ordered)


#: The column of labels in the tables that `predict` writes.
LABEL_COLUMN = "predicted_label"
#: Tolerance of the sum of probabilities, for the rounding of float32 over many classes.
SUM_TOLERANCE = 1e-3


def prediction_problem(prediction: object, classes: frozenset[str]) -> str:
    """Return what is wrong with a prediction, as a sentence, or ""."""
    if not isinstance(prediction, Prediction):
        return f"it gave {quoted(prediction)}; it must give a sentikit.Prediction."
    known = ", ".join(sorted(classes))
    if prediction.label is not None and prediction.label not in classes:
        return f"it gave the label {quoted(prediction.label)}; it must be one of {known}, or None."
    if prediction.confidence is not None and not _is_share(prediction.confidence):
        return f"its confidence is {quoted(prediction.confidence)}; it must be from 0 to 1."
    for name, amount in (("cost", prediction.cost), ("paid", prediction.paid)):
        if amount is not None and not (_is_number(amount) and 0 <= amount < math.inf):
            return f"its {name} is {quoted(amount)}; it must be USD of at least 0, or None."
    found = prediction.probabilities
    return "" if found is None else _probability_problem(found, classes)


def _probability_problem(found: object, classes: frozenset[str]) -> str:
    if not isinstance(found, Mapping) or set(found) != classes:
        wanted = ", ".join(sorted(classes))
        return f"its probabilities are {quoted(found)}; they must have one for each of {wanted}."
    if not all(map(_is_share, found.values())):
        return f"its probabilities are {quoted(found)}; each must be a float from 0 to 1."
    total = sum(found.values())
    if abs(total - 1) > SUM_TOLERANCE:
        return f"its probabilities sum to {total:.4g}; they must sum to 1."
    return ""


def _is_number(value: object) -> bool:
    # Most are floats, which the first comparison tells fastest.
    return type(value) is float or (isinstance(value, int | float) and type(value) is not bool)


def _is_share(value: Any) -> bool:
    return _is_number(value) and -SUM_TOLERANCE <= value <= 1 + SUM_TOLERANCE


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return probabilities, (texts, classes), of logits divided by `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def choose_classes(
    probabilities: NDArray[np.float64], threshold: float | None = None
) -> NDArray[np.int64]:
    """Return the predicted class numbers: the likeliest, or by `threshold` of the second."""
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1))
    return (probabilities[:, 1] >= threshold).astype(np.int64)


def predictions(probabilities: NDArray[np.float64], scheme: LabelScheme) -> Iterator[Prediction]:
    """Yield one prediction per row of probabilities."""
    chosen = choose_classes(probabilities, scheme.threshold)
    for row, winner in zip(probabilities.tolist(), chosen.tolist(), strict=True):
        yield Prediction(scheme.classes[winner], dict(zip(scheme.classes, row, strict=True)))


#: The range of temperatures; a validation split without mistakes would give 0.
LOWEST, HIGHEST = 0.05, 20.0
_HALVINGS = 60
#: With fewer mistakes, a temperature is not reliable.
FEW_MISTAKES = 5


def fit_temperature(logits: NDArray[np.float32], gold: NDArray[np.int64]) -> float:
    """Return the temperature that minimises the negative log-likelihood; ignores gold -1.

    The likelihood is concave in 1 / temperature, so bisection finds the change of sign of its
    slope.
    """
    labelled = gold >= 0
    logits, gold = logits[labelled], gold[labelled]
    if not len(gold):
        return 1.0
    low, high = np.log(LOWEST), np.log(HIGHEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _too_confident(logits, gold, float(np.exp(middle))):
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def trusted_temperature(logits: NDArray[np.float32], gold: NDArray[np.int64]) -> tuple[float, str]:
    """Return the fitted temperature, and a warning if it is not reliable, else "".

    With few misclassified examples, the data do not limit the confidence; the temperature is then
    at least 1, so that probabilities are not sharpened.
    """
    temperature = fit_temperature(logits, gold)
    labelled = gold >= 0
    mistakes = int((logits.argmax(axis=1) != gold)[labelled].sum())
    if mistakes < FEW_MISTAKES:
        return max(1.0, min(temperature, HIGHEST)), (
            f"Only {mistakes} of {int(labelled.sum()):,} validation texts are misclassified, too "
            "few to calibrate by, so calibrated probabilities are not sharpened."
        )
    if not LOWEST * 1.01 < temperature < HIGHEST / 1.01:
        return max(1.0, temperature), (
            f"The fitted temperature {temperature:.3g} is at the limit of its range, so the "
            "calibration is not reliable. Use a larger validation split."
        )
    return temperature, ""


def _too_confident(
    logits: NDArray[np.float32], gold: NDArray[np.int64], temperature: float
) -> bool:
    """Return whether the loss falls as the temperature rises.

    The loss's slope in 1 / temperature is the mean of the expected logit minus the gold one's.
    """
    expected = (softmax(logits, temperature) * logits).sum(axis=1)
    picked = logits[np.arange(len(gold)), gold]
    return bool((expected - picked).mean() > 0)
