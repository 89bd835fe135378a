"""Combinations of several members: a product of probabilities, or a fit on labels.

A combination is fixed before the certifying draw, or fitted on labels that do not certify.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentikit import InputError
from sentikit.extension import Labels

from .checked import Check
from .pile_job import PileJob

_LEAST_PROBABILITY = 1e-12
#: Rows combined at a time, so that memory stays flat.
_PIECE = 100_000

Floats = NDArray[np.float64]
Combination = Callable[[Sequence[ArrayLike]], Floats]


def combine(
    members: Sequence[ArrayLike], assumed_accuracy: float = Labels.ASSUMED_ACCURACY
) -> Floats:
    """Combine the members' probabilities without any labels; return (rows, classes).

    The product of the members' probabilities, scaled to 1 in each row (naive Bayes under equal
    class shares). A one-hot row, as of an LLM without log-probabilities, gives its class the
    probability `assumed_accuracy` and the others the rest. A row of NaN, where a member has no
    answer, is ignored.

    Args:
        members: an array (rows, classes) of each.
        assumed_accuracy: of a one-hot row.

    Raises:
        InputError: there is no member, or their shapes differ.
    """
    tables = [np.asarray(member, np.float64) for member in members]
    if not tables or any(t.ndim != 2 or t.shape != tables[0].shape for t in tables):
        raise InputError("All members need the same rows and classes.")
    total = np.zeros(tables[0].shape)
    for table in tables:
        total += _log_likelihood(table, assumed_accuracy)
    exponents = np.exp(total - total.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def _log_likelihood(table: Floats, accuracy: float) -> Floats:
    others = (1 - accuracy) / max(1, table.shape[1] - 1)
    ordered = np.sort(table, axis=1)
    one_hot = (ordered[:, -1:] == 1) & (ordered[:, -2:-1] == 0)
    softened = np.where(one_hot, np.where(table == 1, accuracy, others), table)
    logs = np.log(np.maximum(softened, _LEAST_PROBABILITY))
    return np.where(np.isnan(table).any(axis=1, keepdims=True), 0.0, logs)


class FittedCombination:
    """A combination fitted on labels: multinomial logistic regression on the members' answers.

    Labels used for the fit cannot certify.
    """

    def __init__(self, members: Sequence[ArrayLike], labels: ArrayLike) -> None:
        from sklearn.linear_model import LogisticRegression

        truth = np.asarray(labels, np.int64)
        self.classes = np.asarray(members[0]).shape[1]
        if len(np.unique(truth)) < 2:
            raise InputError("A combination is fitted on labels of at least two classes.")
        self.labels_used = len(truth)
        self._model = LogisticRegression(max_iter=1000).fit(_features(members), truth)

    def __call__(self, members: Sequence[ArrayLike]) -> Floats:
        """Return probabilities, (rows, classes); a class without labels in the fit gets 0."""
        found = np.zeros((len(np.asarray(members[0])), self.classes))
        found[:, self._model.classes_] = self._model.predict_proba(_features(members))
        return found


def _features(members: Sequence[ArrayLike]) -> Floats:
    columns = []
    for member in members:
        table = np.asarray(member, np.float64)
        known = ~np.isnan(table).any(axis=1, keepdims=True)
        columns.append(np.where(known, np.log(np.clip(table, 1e-6, 1)) / 7, 0.0))
    return np.hstack(columns)


def fitted(job: PileJob, members: Sequence[str], checks: Sequence[Check]) -> FittedCombination:
    """Classify labelled texts with the members, and fit their combination.

    Raises:
        InputError: members' classes differ, or the labels are of one class.
    """
    texts = [check.text for check in checks]
    found = [job.ask_texts(name, texts).labels for name in members]
    truth = [found[0].classes.index(check.label or "") for check in checks]
    return FittedCombination(_tables(found, slice(None)), truth)


def combined(members: Sequence[Labels], rule: Combination = combine) -> Labels:
    """Return the combined labels of members; a single member's labels are its own.

    Raises:
        InputError: their classes differ.
    """
    if len(members) == 1:
        return members[0]
    classes, table = members[0].classes, members[0].probabilities
    labels, confidence = np.empty(len(table), np.int16), np.empty(len(table))
    for start in range(0, len(table), _PIECE):
        piece = slice(start, start + _PIECE)
        tables = _tables(members, piece)
        joined = rule(tables)
        silent = np.stack([np.isnan(one).any(axis=1) for one in tables]).all(axis=0)
        labels[piece] = np.where(silent, -1, joined.argmax(axis=1))
        joined[silent] = np.nan
        table[piece] = joined  # Overwrites the first member's, to need no more memory.
        confidence[piece] = table[piece].max(axis=1)
    return Labels(classes, labels, confidence, table)


def _tables(members: Sequence[Labels], piece: slice) -> list[NDArray[np.float32]]:
    """Return members' probabilities of some rows, with classes in the order of the first."""
    classes = members[0].classes
    for other in members[1:]:
        if set(other.classes) != set(classes):
            raise InputError(
                f"--with needs members with the same classes. One has {', '.join(classes)}, "
                f"another {', '.join(other.classes)}."
            )
    return [m.probabilities[piece][:, [m.classes.index(c) for c in classes]] for m in members]
