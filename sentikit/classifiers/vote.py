"""The vote: the label that most classifiers give."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import tee
from typing import Literal, NamedTuple

from sentikit.classifiers.cascade import member_predictions, refuse_unfit
from sentikit.classifiers.classifier import Classifier, Example, Session
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.labels import LabelScheme

Ties = Literal["first", "probability"]


class Vote(Classifier):
    """Classifiers that vote, the most reliable first; a member without a label abstains.

    `Prediction.confidence` is the winner's share of the members, so that a vote can be the first
    stage of a cascade; `Prediction.answered_by` is the first member with the winning label. If a
    member fails, `Prediction.error` reports it together with the others' label.
    """

    def __init__(self, members: Mapping[str, Classifier], ties: Ties = "first") -> None:
        refuse_unfit(members, "vote")
        self.members, self.ties = dict(members), ties
        self._scheme = next(iter(members.values())).scheme

    @property
    def scheme(self) -> LabelScheme:
        return self._scheme

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        # The members may read in different threads. `tee` keeps what the slowest has not read yet,
        # which is bounded by their reading ahead, because predictions are taken in step.
        lock = threading.Lock()
        streams = [
            member_predictions(name, member, _read(copy, lock), session)
            for (name, member), copy in zip(
                self.members.items(), tee(examples, len(self.members)), strict=True
            )
        ]
        for row in zip(*streams, strict=True):
            yield self._elected([prediction for _, prediction in row])

    def _elected(self, row: Sequence[Prediction]) -> Prediction:
        numbers = {label: number for number, label in enumerate(self.labels)}
        labels = [-1 if vote.label is None else numbers[vote.label] for vote in row]
        known = [
            None if vote.probabilities is None else [vote.probabilities[n] for n in self.labels]
            for vote in row
        ]
        winner = elect(labels, known, self.ties)
        votes = tuple(vote.label for vote in row)
        named = [vote.of_member(name) for name, vote in zip(self.members, row, strict=True)]
        error = next((vote.error for vote in named if vote.error), None)
        if winner.number < 0:
            return Prediction(None, votes=votes, error=error).with_costs_of(row)
        prediction = Prediction(
            self.labels[winner.number],
            confidence=winner.votes / len(row),
            answered_by=named[labels.index(winner.number)].answered_by,
            votes=votes,
            error=error,
        )
        return prediction.with_costs_of(row)


class Winner(NamedTuple):
    """The winning class, -1 if all abstain; its votes; whether another has as many."""

    number: int
    votes: int
    tied: bool


def elect(
    labels: Sequence[int], probabilities: Sequence[Sequence[float] | None], ties: Ties = "first"
) -> Winner:
    """Return the label that most members give; class number -1 abstains.

    ``first`` breaks ties by the first member with one of the tied labels, ``probability`` by the
    highest mean probability over the members that have probabilities, then like ``first``.
    """
    counts = Counter(label for label in labels if label >= 0)
    if not counts:
        return Winner(-1, 0, False)
    most = max(counts.values())
    leading = [label for label, votes in counts.items() if votes == most]  # in order of naming
    known = [shares for shares in probabilities if shares is not None]
    if len(leading) > 1 and ties == "probability":
        leading.sort(key=lambda label: -sum(shares[label] for shares in known))
    return Winner(leading[0], most, len(leading) > 1)


def _read(examples: Iterator[str | Example], lock: threading.Lock) -> Iterator[str | Example]:
    while True:
        with lock:
            try:
                example = next(examples)
            except StopIteration:
                return
        yield example
