"""The labels of a pile in memory, and labelled tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.labels import LabelScheme, scheme_for_classes
from sentikit.datasets.tables import InputFile


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
        return scheme_for_classes(self.labels.classes)
