"""Training examples with a classifier's labels, which are not gold labels."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sentikit import Examples, InputError, read_run
from sentikit.extension import ComponentSettings, DatasetLoader, ExamplesBuilder, RunTable


class RunPredictions(DatasetLoader):
    """The rows labelled by a run or a results file, as the split ``train``.

    Rows without a valid answer are left out. The run's gold labels are not used.
    """

    class Settings(ComponentSettings):
        """The predictions, and which of them to trust."""

        path: str = Field(description="a run, a results file, or PATH#encoder")
        min_confidence: float = Field(
            0, ge=0, le=1, description="minimum probability of a label to use"
        )
        agree_with: str | tuple[str, ...] = Field(
            (), description="runs that must give the same label"
        )

    settings: Settings

    def splits(self) -> tuple[str, ...]:
        """Return only ``train``: predictions are not for testing."""
        return ("train",)

    def load(self, split: str) -> Examples:
        """Load the trusted rows.

        Raises:
            InputError: there is no such run, required texts or probabilities are missing, or no row
                is trusted.
        """
        table, rows = self._table, self._rows
        if not len(rows):
            raise InputError(
                f"No prediction of {self.settings.path} is trusted: none of {len(table):,} rows "
                "meets min_confidence and agree_with. Ask for less."
            )
        builder = ExamplesBuilder()
        chosen = table.select(rows)
        labels = [table.classes[number] for number in chosen.answers.labels]
        sources, ids = chosen.examples.sources, chosen.examples.ids
        for text, label, source, id_ in zip(
            chosen.examples.texts, labels, sources, ids, strict=True
        ):
            builder.add(text, label=label, source=source, id=id_)
        return builder.finish()

    def label_origin(self) -> str | None:
        """Describe the run and the conditions on its predictions."""
        asked = [f"confidence {self.settings.min_confidence:g} or more"]
        asked = asked if self.settings.min_confidence else []
        asked += [f"the same label from {path}" for path in self._others]
        return f"predictions of {self.settings.path}" + (f" ({', '.join(asked)})" if asked else "")

    def locate(self, split: str, row: int) -> str:
        """Name the row of the run."""
        return f"{self.settings.path}, row {int(self._rows[row]) + 1}"

    @property
    def _others(self) -> tuple[str, ...]:
        others = self.settings.agree_with
        return (others,) if isinstance(others, str) else others

    @cached_property
    def _table(self) -> RunTable:
        table = read_run(self.settings.path)
        if not table.has_texts:
            raise InputError(
                f"{self.settings.path} has no texts, only ids, so it cannot be used for training."
            )
        return table

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """The rows that are trusted, in order."""
        table = self._table
        trusted = table.answers.labels >= 0
        texts = table.examples.texts
        trusted &= np.fromiter((bool(text.strip()) for text in texts), np.bool_, len(table))
        if self.settings.min_confidence:
            trusted &= self._confidences(table) >= self.settings.min_confidence
        for other in self._others:
            trusted &= _agreeing(table, read_run(other))
        return np.flatnonzero(trusted)

    def _confidences(self, table: RunTable) -> NDArray[np.float64]:
        shares = table.answers.probabilities
        if shares is None:
            raise InputError(
                f"{self.settings.path} has no probabilities: leave min_confidence out, or ask "
                "for agreement with another run (agree_with)."
            )
        confidences: NDArray[np.float64] = np.nan_to_num(shares.max(axis=1), nan=0.0)
        return confidences


def _agreeing(table: RunTable, other: RunTable) -> NDArray[np.bool_]:
    """Mark the rows whose text has the same label in both runs."""
    matched = other.in_classes(table.classes, table.name)
    labels: dict[str, set[int]] = {}
    for text, number in zip(matched.examples.texts, matched.answers.labels, strict=True):
        labels.setdefault(text, set()).add(int(number))
    pairs = zip(table.examples.texts, table.answers.labels, strict=True)
    return np.fromiter((labels.get(text) == {int(n)} for text, n in pairs), np.bool_, len(table))
