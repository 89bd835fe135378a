"""What an LLM's run writes of each row, and what the rows come to."""

from __future__ import annotations

import dataclasses
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.prediction import Usage
from sentikit.llm.asking import PromptRow
from sentikit.llm.requests.loop import AnsweredQuestion
from sentikit.scoring import Scores, calibration, score


def row_json(answered: AnsweredQuestion[PromptRow]) -> dict[str, Any]:
    """Return a row of ``predictions.jsonl``: what every run writes, and what an LLM adds.

    ``answer`` is the last answer as it came, ``first_answer`` the invalid one before it where the
    LLM was asked again, ``usage`` the tokens and ``cost`` the USD of both, ``encoder`` what the
    prompt said of the encoder, ``error`` why a row failed.
    """
    row = answered.question.row
    record: dict[str, Any] = {
        "id": row.id,
        "text": row.text,
        "gold": row.gold,
        "label": answered.label,
        "probabilities": _rounded(answered.probabilities, answered.question.request.labels),
        "source": row.source,
        "answer": _raw(answered, -1),
        "finish_reason": answered.answers[-1].finish_reason if answered.answers else None,
        "usage": None if answered.usage is None else dataclasses.asdict(answered.usage),
        "cost": answered.cost,
        "encoder": None,
    }
    if row.opinion is not None:
        said = row.opinion.probabilities
        record["encoder"] = {
            "label": row.opinion.label,
            "probabilities": None if said is None else dict(said),
        }
    if len(answered.answers) > 1:
        record["first_answer"] = _raw(answered, 0)
    if answered.error is not None:
        record["error"] = _writable(answered.error)
    return record


def _rounded(
    probabilities: dict[str, float] | None, labels: tuple[str, ...]
) -> dict[str, float] | None:
    if probabilities is None:
        return None
    return {label: round(probabilities.get(label, 0.0), 6) for label in labels}


def _raw(answered: AnsweredQuestion[PromptRow], which: int) -> str | None:
    if not answered.answers:
        return None
    answer = answered.answers[which]
    return _writable(answer.raw or answer.text)


def _writable(text: str) -> str:
    """Spell out halves of surrogate pairs, which servers may send and no file can hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class RowTotals:
    """Gathers what scores and manifest need, in a few bytes a row.

    Attributes:
        rows: counted so far.
        failed: rows that no call could answer.
        repaired: rows whose second answer was valid.
        saved: rows whose answers were paid for before.
        usage: tokens of all answers, as far as the server says.
        unmetered: answers whose usage the server does not say.
        cost: USD of all answers, whoever paid; None once one is unknown.
        paid: USD of those this run paid for; None likewise.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = classes
        self._numbers = {name: number for number, name in enumerate(classes)}
        self._gold, self._labels, self._sources = array("q"), array("q"), array("q")
        self._source_names: dict[str | None, int] = {}
        self._probabilities = array("d")
        self.rows = self.failed = self.repaired = self.saved = self.unmetered = 0
        self.usage = Usage()
        self.cost: float | None = 0.0
        self.paid: float | None = 0.0

    def add(self, answered: AnsweredQuestion[PromptRow]) -> None:
        """Count a row."""
        row = answered.question.row
        self._gold.append(-1 if row.gold is None else self._numbers[row.gold])
        self._labels.append(-1 if answered.label is None else self._numbers[answered.label])
        names = self._source_names
        self._sources.append(names.setdefault(row.source, len(names)))
        known = answered.probabilities
        self._probabilities.extend(
            [float("nan") if known is None else known.get(name, 0.0) for name in self._classes]
        )
        self.rows += 1
        self.failed += answered.error is not None
        self.repaired += len(answered.answers) > 1 and answered.label is not None
        self.saved += answered.saved and answered.error is None
        self.usage += answered.usage or Usage()
        self.unmetered += answered.unmetered
        if answered.error is None:
            self.cost = _sum(self.cost, answered.cost)
            self.paid = _sum(self.paid, answered.paid)

    @property
    def invalid(self) -> int:
        """Rows without a valid label, failed ones among them."""
        return int((self._array(self._labels) < 0).sum())

    def scores(self) -> tuple[Scores, dict[str, Scores]] | None:
        """Score all rows with a gold label, and those of each source; None where there are none."""
        labelled = np.flatnonzero(self._array(self._gold) >= 0)
        if not len(labelled):
            return None
        sources = self._array(self._sources)[labelled]
        by_source = {
            name: self._score(labelled[sources == number])
            for name, number in self._source_names.items()
            if name is not None and (sources == number).any()
        }
        return self._score(labelled), dict(sorted(by_source.items()))

    def _score(self, rows: NDArray[np.int64]) -> Scores:
        """Score some rows; calibration is measured on those with probabilities."""
        gold, labels = self._array(self._gold)[rows], self._array(self._labels)[rows]
        scores = score(gold, labels, self._classes)
        flat = np.frombuffer(self._probabilities, np.float64)
        known = flat.reshape(-1, len(self._classes))[rows]
        sure = np.flatnonzero(~np.isnan(known).any(1))
        if not len(sure):
            return scores
        return dataclasses.replace(scores, calibration=calibration(gold[sure], known[sure]))

    def _array(self, values: array[int]) -> NDArray[np.int64]:
        # A copy: an array that lends its memory could not grow any more.
        return np.array(values, np.int64)


def _sum(total: float | None, more: float | None) -> float | None:
    return None if total is None or more is None else total + more
