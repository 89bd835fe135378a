"""One confidence from several classifiers, by a rule that is fixed before any text is checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentikit.errors import InputError

#: Taken for how often a label without probabilities is right. Chosen, as the weight 1 of the
#: log-probabilities, on validation predictions: ELECTRA Large's probabilities with Base's labels.
ASSUMED_ACCURACY = 0.8
_LEAST_PROBABILITY = 1e-12

Floats = NDArray[np.float64]


def combine(members: Sequence[ArrayLike], assumed_accuracy: float = ASSUMED_ACCURACY) -> Floats:
    """Return probabilities, (rows, classes), from what several members say, without any labels.

    The product of the members' probabilities, scaled to 1 in each row (naive Bayes under equal
    class shares). A member's row that is one-hot, as of an LLM without log-probabilities, counts
    as right with `assumed_accuracy`, else as any other class; a row of NaN, where a member has no
    answer, counts for nothing.

    Args:
        members: of each, (rows, classes).
        assumed_accuracy: of a one-hot row.

    Raises:
        InputError: there is no member, or their shapes differ.
    """
    tables = [np.asarray(member, np.float64) for member in members]
    if not tables or any(t.ndim != 2 or t.shape != tables[0].shape for t in tables):
        raise InputError("Members are combined row by row: all need the same rows and classes.")
    total = np.zeros(tables[0].shape)
    for table in tables:
        total += _log_likelihood(table, assumed_accuracy)
    total -= total.max(axis=1, keepdims=True)
    exponents = np.exp(total)
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def _log_likelihood(table: Floats, accuracy: float) -> Floats:
    others = (1 - accuracy) / max(1, table.shape[1] - 1)
    one_hot = (np.sort(table, axis=1)[:, -1:] == 1) & (np.sort(table, axis=1)[:, -2:-1] == 0)
    softened = np.where(one_hot, np.where(table == 1, accuracy, others), table)
    logs = np.log(np.maximum(softened, _LEAST_PROBABILITY))
    return np.where(np.isnan(table).any(axis=1, keepdims=True), 0.0, logs)


class FittedCombination:
    """A combination fitted on labels: multinomial logistic regression on the members' answers.

    The labels must not be those that certify: they are spent.
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
        """Return probabilities, (rows, classes); a class never seen in fitting gets 0."""
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
