"""``predictions.jsonl``: one JSON object an example, in the split's order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.examples import Examples
from sentikit.files import atomic_writer


@dataclass(frozen=True)
class PredictedExample:
    """One row of a run's predictions.

    Attributes:
        id: of the example.
        text: as the classifier saw it.
        gold: gold class, or None.
        label: predicted class; None is an invalid answer.
        probabilities: class to probability, or None.
        source: as the data spell it, or None.
    """

    id: str
    text: str
    gold: str | None
    label: str | None
    probabilities: dict[str, float] | None
    source: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the row's plain values."""
        return dict(self.__dict__)


def pair(examples: Examples, predictions: Iterable[Prediction]) -> Iterator[PredictedExample]:
    """Join examples and what a classifier said of them, in order."""
    answers = iter(predictions)
    for batch in examples.batches():
        columns = (batch["id"], batch["text"], batch["label"], batch["source"])
        for identifier, text, gold, source in zip(*columns, strict=True):
            answer = next(answers)
            known = answer.probabilities
            rounded = None if known is None else {n: round(p, 6) for n, p in known.items()}
            yield PredictedExample(identifier, text, gold, answer.label, rounded, source)


def write_predictions(path: Path, rows: Iterable[PredictedExample]) -> None:
    """Write all rows; the file appears only when it is complete."""
    with atomic_writer(path) as stream:
        for row in rows:
            stream.write(json.dumps(row.to_json(), ensure_ascii=False) + "\n")
