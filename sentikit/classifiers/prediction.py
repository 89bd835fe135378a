"""What logits mean: probabilities, and the label they add up to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.labels import LabelScheme


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one text.

    Attributes:
        label: the predicted class.
        probabilities: class to probability, in logit order.
    """

    label: str
    probabilities: dict[str, float]


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return probabilities, (texts, classes), of logits divided by `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def choose_classes(
    probabilities: NDArray[np.float64], threshold: float | None = None
) -> NDArray[np.int64]:
    """Return the predicted class numbers: the likeliest, or the second from `threshold` on."""
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1))
    return (probabilities[:, 1] >= threshold).astype(np.int64)


def predictions(probabilities: NDArray[np.float64], scheme: LabelScheme) -> Iterator[Prediction]:
    """Yield one prediction a row of probabilities."""
    chosen = choose_classes(probabilities, scheme.threshold)
    for row, winner in zip(probabilities.tolist(), chosen.tolist(), strict=True):
        yield Prediction(scheme.classes[winner], dict(zip(scheme.classes, row, strict=True)))
