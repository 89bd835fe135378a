"""The interface of a dataset: what a plugin implements to bring examples in."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sentikit.datasets.examples import Examples
from sentikit.parts import Part


class DatasetLoader(Part, ABC):
    """Loads the splits of one dataset.

    Labels are given as the data spell them; the recipe's label scheme folds them into classes.
    """

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Return the splits that can be loaded with these settings, cheaply.

        Raises:
            sentikit.InputError: the settings point at nothing that can be read.
        """

    @abstractmethod
    def load(self, split: str) -> Examples:
        """Load one of `splits`.

        Raises:
            sentikit.InputError: a file is missing or malformed; says which and where.
            sentikit.SentikitError: the disk or the network failed.
        """

    def locate(self, split: str, row: int) -> str:
        """Say where row `row` (from 0) of `split` stands, for error messages."""
        return f"row {row + 1} of split {split!r}"
