"""Cohen's kappa with quadratic weights (Cohen 1968, https://doi.org/10.1037/h0026256)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sentikit.extension import Metric

if TYPE_CHECKING:
    from sentikit import LabelScheme


class QuadraticWeightedKappa(Metric):
    """The metric: 1 for perfect agreement, 0 for agreement by chance, negative for less.

    An invalid answer counts as the class farthest from the gold label.
    """

    title = "QWK"

    def suits(self, scheme: LabelScheme) -> bool:
        """Return whether there are at least three ordered classes."""
        return scheme.ordered and len(scheme.classes) > 2

    def score(self, counts: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64]:
        """Score confusion counts; 1 if chance alone would agree completely."""
        ranks = np.arange(len(classes))
        # The class of each cell's answer: its column, or for invalid ones the farthest from gold.
        farthest = np.where(ranks < len(classes) / 2, len(classes) - 1, 0)
        answered = np.concatenate([np.tile(ranks, (len(classes), 1)), farthest[:, None]], 1)
        gold = np.repeat(ranks, len(classes) + 1)
        weights = (ranks[:, None] - ranks) ** 2.0
        # Matrix products are many times faster than sums over short axes.
        cells = counts.reshape(*counts.shape[:-2], -1).astype(np.float64)
        classes_of = np.eye(len(classes))
        rows, columns = cells @ classes_of[gold], cells @ classes_of[answered.ravel()]
        observed = cells @ weights[gold, answered.ravel()]
        total = np.maximum(cells @ np.ones(cells.shape[-1]), 1)
        expected = ((rows @ weights) * columns) @ np.ones(len(classes)) / total
        ratio = np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0)
        return np.asarray(1 - ratio)
