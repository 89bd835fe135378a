"""What a classifier says of each row of a pile, and labelled tables as they are read back."""

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
        classes: their names.
        labels: class numbers; -1 where there is none.
        confidence: of the label; NaN where there is none.
        probabilities: (rows, classes); one-hot where a classifier gives none.
    """

    #: How often a label without probabilities is assumed to be right. Chosen, with the weight 1 of
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
        labels: of its rows.
        groups: the groups of each row, by the names asked for.
        rows: how many there are.
    """

    source: InputFile
    labels: Labels
    groups: Mapping[str, list[str]]
    rows: int

    @property
    def scheme(self) -> LabelScheme:
        """The classes, and what is read as each."""
        return scheme_for_classes(self.labels.classes)
