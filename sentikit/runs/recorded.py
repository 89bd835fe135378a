"""The classifier that repeats the recorded answers of a run or results file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.chat import Usage
from sentikit.classifiers.classifier import Classifier, Example, Session
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.examples import canonical_text
from sentikit.datasets.labels import LabelScheme, scheme_for_classes
from sentikit.errors import InputError, quoted
from sentikit.runs.table import Labelling, RunTable


class RecordedClassifier(Classifier):
    """Returns the recorded prediction of each text.

    If a text is recorded several times, an example with an id gets the rows with that id, and other
    examples get all of them, in turn. A text without an equal one gets a row whose text differs
    only in case, white space and Unicode form.

    Attributes:
        table: the rows.
    """

    def __init__(self, table: RunTable) -> None:
        self.table = table
        self._scheme = scheme_for_classes(table.classes, ordered=table.ordered)

    @property
    def scheme(self) -> LabelScheme:
        return self._scheme

    def describe(self) -> dict[str, Any]:
        """Return what determines the labels: a hash of the recorded texts and answers."""
        table = self.table
        found = hashlib.sha256(json.dumps([table.examples.fingerprint(), table.classes]).encode())
        found.update(table.answers.labels.tobytes())
        if table.answers.probabilities is not None:
            found.update(table.answers.probabilities.tobytes())
        return super().describe() | {"answers": found.hexdigest()}

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield the recorded prediction of each example, at no new cost."""
        seen: Counter[int] = Counter()
        for example in examples:
            given = Example(example) if isinstance(example, str) else example
            yield self.prediction(self._row(given, seen))

    def _row(self, example: Example, seen: Counter[int]) -> int:
        if not self.table.has_texts:
            rows = self._by_id.rows(example.id)
        else:
            rows = self._by_text.rows(example.text)
            if not len(rows):
                rows = self._by_canonical_text.rows(canonical_text(example.text))
        if not len(rows):
            sought = f"text {quoted(example.text)}" if self.table.has_texts else "id"
            raise InputError(
                f"{self.table.name} has no row for the {sought}"
                f"{f' (id {example.id!r})' if example.id else ''}. Recorded answers exist only for "
                "their own texts; for new ones, give the model or the recipe."
            )
        if len(rows) == 1:
            return int(rows[0])
        if example.id:
            ids = np.array(self.table.examples.select(rows).ids)
            rows = rows[ids == example.id] if example.id in ids else rows
        first = int(rows[0])
        seen[first] += 1
        return int(rows[min(seen[first], len(rows)) - 1])

    def prediction(self, row: int) -> Prediction:
        table = self.table
        label, probabilities = self._recorded(table.answers, row)
        certain = table.answers.probabilities is None or probabilities is not None
        adviser = None if table.adviser is None else Prediction(*self._recorded(table.adviser, row))
        raw = None if table.raw is None else table.raw[row].as_py()
        return Prediction(
            label,
            probabilities,
            # If other rows have probabilities, one without them has no confidence.
            confidence=None if certain else 0.0,
            cost=self._cost(row),
            usage=None if table.tokens is None else Usage(*map(int, table.tokens[row])),
            answer=raw,
            adviser=adviser if adviser is not None and adviser.label is not None else None,
        )

    def _recorded(
        self, recorded: Labelling, row: int
    ) -> tuple[str | None, dict[str, float] | None]:
        number = int(recorded.labels[row])
        label = self.table.classes[number] if number >= 0 else None
        if recorded.probabilities is None or np.isnan(recorded.probabilities[row]).any():
            return label, None
        values = recorded.probabilities[row].tolist()
        return label, dict(zip(self.table.classes, values, strict=True))

    def _cost(self, row: int) -> float | None:
        """Return the USD of a row; 0 if no LLM answered."""
        table = self.table
        if table.cost is None:
            return 0.0 if table.raw is None and table.tokens is None else None
        return None if np.isnan(table.cost[row]) else float(table.cost[row])

    @cached_property
    def _by_text(self) -> _Index:
        return _Index(self._column("text"))

    @cached_property
    def _by_canonical_text(self) -> _Index:
        return _Index(map(canonical_text, self._column("text")))

    @cached_property
    def _by_id(self) -> _Index:
        return _Index(self._column("id"))

    def _column(self, name: str) -> Iterator[str]:
        for batch in self.table.examples.batches():
            yield from batch[name]


class _Index:
    """An index of values by hash, in 16 bytes per row."""

    def __init__(self, values: Iterable[str]) -> None:
        hashes: NDArray[np.int64] = np.fromiter(map(hash, values), np.int64)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def rows(self, value: str) -> NDArray[np.int64]:
        first, end = np.searchsorted(self._hashes, [hash(value), hash(value) + 1])
        return self._order[first:end]
