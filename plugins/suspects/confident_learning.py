"""Suspects: examples whose gold label a classifier contradicts with confidence.

Confident learning as in C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident Learning: Estimating
Uncertainty in Dataset Labels" (JAIR 2021): a class is likely for an example if its probability
reaches the class's mean over its own examples. An example is suspect if the likeliest such class
differs from its label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentikit import InputError


@dataclass(frozen=True)
class Suspects:
    """The suspect rows, the most suspect first.

    Attributes:
        rows: positions among the rows that were judged.
        suggested: class numbers of the likelier labels.
        margins: the gold label's probability minus that of the likeliest other class.
        judged: number of rows with a gold label and probabilities.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    margins: NDArray[np.float64]
    judged: int


def find_suspects(gold: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Suspects:
    """Find examples whose label is likely wrong.

    Args:
        gold: class numbers, (rows,); -1 if unknown.
        probabilities: (rows, classes), of a classifier that was not trained on these rows; NaN if
            unknown.

    Raises:
        InputError: no row has both.
    """
    known = np.flatnonzero((gold >= 0) & np.isfinite(probabilities).all(axis=1))
    if not len(known):
        raise InputError("No row has both a gold label and probabilities.")
    labels, shares = gold[known], probabilities[known]
    classes = np.arange(shares.shape[1])
    own = [shares[labels == number, number] for number in classes]
    # A class without examples has no mean.
    means = np.array([values.mean() if len(values) else np.inf for values in own])
    likely = shares >= means - 1e-6
    best = np.where(likely, shares, -1.0).argmax(axis=1)
    every = np.arange(len(known))
    others = shares.copy()
    others[every, labels] = -1.0
    margins = shares[every, labels] - others.max(axis=1)
    # If the classifier predicts the gold label, there is nothing to correct.
    odd = likely.any(axis=1) & (best != labels) & (shares.argmax(axis=1) != labels)
    found = np.flatnonzero(odd)
    ordered = found[np.argsort(margins[found], kind="stable")]
    suggested = shares[ordered].argmax(axis=1)
    return Suspects(known[ordered], suggested, margins[ordered], len(known))
