"""The vote: the label that most classifiers give."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from sentikit.classifiers.cascade import member_predictions, named, refuse_other_classes
from sentikit.classifiers.classifier import Classifier, Example, Session
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.labels import LabelScheme
from sentikit.errors import InputError, SentikitError

Ties = Literal["first", "probability"]


class Vote(Classifier):
    """Classifiers that vote on every example; one that gives no label abstains.

    `Prediction.confidence` is the winner's share of the members, so that a vote can be the first
    stage of a cascade.

    Args:
        members: at least two, the most trusted first, by name.
        ties: see `elect`.

    Raises:
        InputError: too few members, or members with other classes.
    """

    def __init__(self, members: Mapping[str, Classifier], ties: Ties = "first") -> None:
        if len(members) < 2:
            raise InputError(f"A vote needs two members at least, not {len(members)}.")
        refuse_other_classes(members, "vote")
        self.members, self.ties = dict(members), ties
        self._scheme = next(iter(members.values())).scheme

    @property
    def scheme(self) -> LabelScheme:
        """The first member's."""
        return self._scheme

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield one prediction for each example, with the costs of all members.

        `Prediction.answered_by` is the first member that gave the winning label.
        """
        shared = _SharedExamples(examples, len(self.members))
        streams = [
            member_predictions(name, member, shared.read(reader), session)
            for reader, (name, member) in enumerate(self.members.items())
        ]
        try:
            for row in zip(*streams, strict=True):
                yield self._elected(row)
        except ValueError as error:
            if "zip()" not in str(error):
                raise
            raise SentikitError("The members give different numbers of predictions.") from error

    def _elected(self, row: Sequence[Prediction]) -> Prediction:
        numbers = {label: number for number, label in enumerate(self.labels)}
        labels = [-1 if vote.label is None else numbers[vote.label] for vote in row]
        known = [
            None if vote.probabilities is None else [vote.probabilities[n] for n in self.labels]
            for vote in row
        ]
        winner = elect(labels, known, self.ties)
        votes = tuple(vote.label for vote in row)
        if winner.number < 0:
            errors = [vote.error for vote in row if vote.error]
            nobody = Prediction(None, votes=votes, error=errors[0] if errors else None)
            return nobody.with_costs_of(row)
        place = labels.index(winner.number)
        prediction = Prediction(
            self.labels[winner.number],
            confidence=winner.votes / len(row),
            answered_by=named(list(self.members)[place], row[place]),
            votes=votes,
        )
        return prediction.with_costs_of(row)


class Winner(NamedTuple):
    """The outcome of a vote on one example.

    Attributes:
        number: the class number; -1 where all members abstain.
        votes: how many members gave it.
        tied: whether another label has as many.
    """

    number: int
    votes: int
    tied: bool


def elect(
    labels: Sequence[int],
    probabilities: Sequence[Sequence[float] | None],
    ties: Ties = "first",
) -> Winner:
    """Return the label that most members give.

    Args:
        labels: each member's class number, the most trusted member first; -1 abstains.
        probabilities: of each member, by class number; None where unknown.
        ties: among labels with equally many votes: ``first`` takes that of the first named member
            that gave one of them, ``probability`` the one with the highest mean probability over
            the members that know probabilities, and then the first.
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


class _SharedExamples:
    """One stream of examples for several readers, which may read in different threads.

    What the slowest reader has not read yet is kept. The readers' predictions are taken in step,
    so that this is no more than one of them reads ahead.
    """

    def __init__(self, examples: Iterable[str | Example], readers: int) -> None:
        self._examples, self._lock = iter(examples), threading.Lock()
        self._waiting: list[deque[str | Example]] = [deque() for _ in range(readers)]

    def read(self, reader: int) -> Iterator[str | Example]:
        own = self._waiting[reader]
        while True:
            with self._lock:
                if not own:
                    try:
                        example = next(self._examples)
                    except StopIteration:
                        return
                    for waiting in self._waiting:
                        waiting.append(example)
                following = own.popleft()
            yield following
