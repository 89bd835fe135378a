"""The job that labels a pile with several classifiers: one answer journal, one budget."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sentikit import Classifier, Example, Prediction
from sentikit.extension import (
    FileRows,
    InputFile,
    LabellingOptions,
    Labels,
    Limits,
    RequestReporter,
    RequestSession,
    Row,
    cache_of,
    label_rows,
    say_estimate,
    usd,
)

from .pile import rows_again


class Answers:
    """Collects a classifier's predictions for a pile, or for some of its rows."""

    def __init__(self, rows: int, classes: tuple[str, ...], only: NDArray[np.int64] | None) -> None:
        table = np.full((rows, len(classes)), np.nan, np.float32)
        self.labels = Labels(classes, np.full(rows, -1, np.int16), np.full(rows, np.nan), table)
        self.paid: float | None = 0.0
        self.cost: float | None = 0.0
        self._places: Iterator[int] = iter(range(rows) if only is None else only.tolist())

    def add(self, example: Example, gold: str | None, prediction: Prediction) -> None:
        """Add the next row's prediction."""
        place, labels = next(self._places), self.labels
        self.paid, self.cost = _sum(self.paid, prediction.paid), _sum(self.cost, prediction.cost)
        if prediction.label is None or not example.text.strip():
            return
        number = labels.classes.index(prediction.label)
        labels.labels[place] = number
        if prediction.probabilities is not None:
            labels.probabilities[place] = [prediction.probabilities[c] for c in labels.classes]
        else:
            labels.probabilities[place] = np.arange(len(labels.classes)) == number
        certainty = prediction.certainty
        labels.confidence[place] = Labels.ASSUMED_ACCURACY if certainty is None else certainty


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


class PileJob:
    """Labels a pile with several classifiers; use as a context manager.

    All classifiers are prepared, and the cost of their LLMs is estimated, before the first request.
    Paid answers are kept in the working folder's journal, so that labelling again after a kill
    pays for none twice. A job is identified by its classifiers' descriptions and the pile's
    fingerprint.

    Attributes:
        costs: USD billed for each classifier's answers in this job, by name; None if unknown.
    """

    def __init__(
        self,
        source: InputFile,
        rows: int,
        fingerprint: str,
        classifiers: Mapping[str, Classifier],
        options: LabellingOptions,
    ) -> None:
        self._source, self._rows, self._classifiers = source, rows, classifiers
        self._fingerprint = fingerprint
        self.costs: dict[str, float | None] = {}
        self._earlier: dict[str, float | None] = {}
        described = {name: one.describe() for name, one in classifiers.items()}
        text = json.dumps([described, fingerprint], sort_keys=True, default=str)
        self._session = RequestSession(
            hashlib.sha256(text.encode()).hexdigest()[:32],
            cache_of(*classifiers.values()),
            Limits(options.max_cost, options.failure_limit, rows),
            stop_requested=options.stop_requested,
        )

    def __enter__(self) -> Self:
        self._session.__enter__()
        try:
            for classifier in self._classifiers.values():
                classifier.prepare(self._session)
            for classifier in self._classifiers.values():
                # Before the first request, as an estimate opens and closes backends itself.
                with self._source.open() as opened:
                    given = FileRows(self._source, opened)
                    say_estimate(classifier, given, self._rows, self._session)
        except BaseException:
            self._session.close()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self._session.close()

    def ask(self, name: str, only: NDArray[np.int64] | None = None) -> Answers:
        """Label the pile, or some of its rows in ascending order, with a classifier.

        Raises:
            Interrupted: the user asked to stop.
            SentikitError: an outage, or no budget left; paid answers are kept.
        """
        with self._source.open() as opened:
            wanted = np.ones(self._rows, np.bool_)
            if only is not None:
                wanted[:] = False
                wanted[only] = True
            every = rows_again(self._source, opened, self._rows, self._fingerprint)
            rows = (Row(Example(text, columns=row)) for _, text, row in compress(every, wanted))
            answers = self._ask(name, rows, self._rows, only)
        # Earlier answers about these rows are in the journal and count again here.
        self.costs[name] = _sum(self._earlier.get(name, 0.0), answers.paid)
        return answers

    def ask_texts(self, name: str, texts: Sequence[str]) -> Answers:
        """Label other texts, such as those a combination is fitted on, with a classifier."""
        rows = (Row(Example(text)) for text in texts)
        answers = self._ask(name, rows, len(texts), None)
        self._earlier[name] = answers.paid
        return answers

    def _ask(
        self, name: str, given: Iterator[Row], rows: int, only: NDArray[np.int64] | None
    ) -> Answers:
        classifier, session = self._classifiers[name], self._session
        session.reporter = RequestReporter(rows if only is None else len(only))
        for member in session.members:
            member.begin()
        answers = Answers(rows, classifier.labels, only)
        with session.reporter:
            label_rows(classifier, given, answers.add, session)
        return answers

    @property
    def paid(self) -> float | None:
        """USD that this job paid, with lost calls at their worst-case cost; None if unknown."""
        if not self._session.members:
            return 0.0
        spent = self._session.spent
        return None if spent is None else usd(spent)
