"""The cascade: a classifier answers where it is sure, the next one elsewhere.

Routing by the top probability is the oldest selective classification (Chow 1970, On optimum
recognition error and reject tradeoff); what is rejected here goes to another classifier.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from sentikit.classifiers.classifier import Classifier, Example, Session, text_of
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.plugin_classifier import prediction_problem
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.labels import LabelScheme
from sentikit.errors import InputError, SentikitError

#: Predictions held back while the last member works on an earlier example.
MOST_PENDING = 8192


class Cascade(Classifier):
    """Classifiers of which each answers where it is sure enough; the last answers the rest.

    A member that gives no label is not sure. Examples stream through all members, in order and
    with flat memory.

    Args:
        members: at least two, by the names that `Prediction.answered_by` shows; tried in order.
        thresholds: for each member but the last, the certainty from which it answers.

    Raises:
        InputError: too few members, another number of thresholds, or members with other classes.
    """

    def __init__(self, members: Mapping[str, Classifier], thresholds: Sequence[float]) -> None:
        if len(members) < 2:
            raise InputError(f"A cascade needs two members at least, not {len(members)}.")
        if len(thresholds) != len(members) - 1:
            raise InputError(
                f"A cascade of {len(members)} members needs {len(members) - 1} thresholds, one for "
                f"each member but the last; {len(thresholds)} given."
            )
        refuse_other_classes(members, "cascade")
        self.members, self.thresholds = dict(members), tuple(thresholds)
        (self._name, self._first), (self._last_name, self._last) = islice(members.items(), 2)
        if len(members) > 2:
            rest = dict(islice(members.items(), 1, None))
            self._last_name, self._last = "", Cascade(rest, thresholds[1:])

    @property
    def scheme(self) -> LabelScheme:
        """The first member's."""
        return self._first.scheme

    def describe(self) -> dict[str, Any]:
        """Return what decides the labels, as JSON values."""
        return super().describe() | {"thresholds": list(self.thresholds)}

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield one prediction for each example, with the costs of all members asked.

        Where a later member answers, `Prediction.adviser` is what the first member predicted.

        Raises:
            InputError: a member that is not the last gives neither probabilities nor a confidence.
        """
        stage = _FirstStage(self._first, self._name, self.thresholds[0], examples, session)
        while not stage.exhausted:
            pending: deque[Prediction | _Unsure] = deque()
            unsure = stage.unsure(pending)
            first = next(unsure, None)  # Without any unsure example the last member is not asked.
            if first is not None:
                rest = chain([first], unsure)
                for answer in member_predictions(self._last_name, self._last, rest, session):
                    yield from _sure(pending, self.labels)
                    yield self._merged(pending, answer)
            yield from _sure(pending, self.labels)
            if pending:
                raise SentikitError(f"{self._last_name} gives too few predictions.")

    def _merged(self, pending: deque[Prediction | _Unsure], answer: Prediction) -> Prediction:
        unsure = pending.popleft() if pending else None
        if not isinstance(unsure, _Unsure):
            raise SentikitError(f"{self._last_name} gives more predictions than it has examples.")
        merged = answer.with_costs_of([unsure.prediction]).in_order_of(self.labels)
        name = named(self._last_name, answer)
        return dataclasses.replace(merged, answered_by=name, adviser=unsure.prediction)


@dataclasses.dataclass(frozen=True)
class _Unsure:
    """A prediction of the first member that the last member's replaces."""

    prediction: Prediction


class _FirstStage:
    """The first member's predictions, of which the unsure ones are passed on.

    The last member may read the unsure examples in another thread than the one that takes the
    predictions: they meet in deques alone.
    """

    def __init__(
        self,
        classifier: Classifier,
        name: str,
        threshold: float,
        examples: Iterable[str | Example],
        session: Session | None,
    ) -> None:
        self.exhausted = False
        self._name, self._threshold = name, threshold
        self._given: deque[str | Example] = deque()
        self._predictions = member_predictions(name, classifier, self._noted(examples), session)

    def _noted(self, examples: Iterable[str | Example]) -> Iterator[str | Example]:
        for example in examples:
            self._given.append(example)
            yield example

    def unsure(self, pending: deque[Prediction | _Unsure]) -> Iterator[str | Example]:
        """Yield unsure examples; append every prediction to `pending`, until it is full.

        The end lets the last member finish, so that nothing waits behind a slow one for ever.
        """
        for prediction in self._predictions:
            if not self._given:
                raise SentikitError(f"{self._name} gives more predictions than it has examples.")
            example = self._given.popleft()
            if self._is_sure(prediction):
                name = named(self._name, prediction)
                pending.append(dataclasses.replace(prediction, answered_by=name))
            else:
                pending.append(_Unsure(prediction))
                yield example
            if len(pending) >= MOST_PENDING:
                return
        self.exhausted = True
        if self._given:
            raise SentikitError(f"{self._name} gives too few predictions.")

    def _is_sure(self, prediction: Prediction) -> bool:
        if prediction.label is None:
            # A row that waits for an answer has a confidence, and is not to be passed on yet.
            return (prediction.confidence or 0.0) >= max(self._threshold, 1e-9)
        if prediction.certainty is None:
            raise InputError(
                f"{self._name} gives neither probabilities nor a confidence, and a cascade asks "
                "how sure it is. Name it last, or give one that does: PATH#encoder of an augmented "
                "run, a vote, or an LLM with log-probabilities or with llm.samples above 1 and a "
                "llm.temperature."
            )
        return prediction.certainty >= self._threshold


def _sure(pending: deque[Prediction | _Unsure], labels: tuple[str, ...]) -> Iterator[Prediction]:
    """Take and yield the sure predictions before the next unsure one."""
    while pending and isinstance(prediction := pending[0], Prediction):
        pending.popleft()
        yield prediction.in_order_of(labels)


def member_predictions(
    name: str, member: Classifier, examples: Iterable[str | Example], session: Session | None
) -> Iterator[Prediction]:
    """Yield a member's predictions in order; those an estimate has computed are taken from it.

    Raises:
        SentikitError: one is malformed, as with NaN or another label; names the member.
    """
    sampled = session.sampled if session and isinstance(member, EncoderClassifier) else None
    given: deque[tuple[str, Prediction | None]] = deque()

    def unknown() -> Iterator[str | Example]:
        for example in examples:
            text = text_of(example)
            found = None if sampled is None else sampled.get((id(member), text))
            given.append((text, found))
            if found is None:
                yield example

    classes = frozenset(member.labels)
    answers = member.classify(examples if sampled is None else unknown(), session)
    for number, prediction in enumerate(answers):
        while given and (computed := given[0][1]) is not None:
            given.popleft()
            yield computed
        problem = prediction_problem(prediction, classes)
        if problem:
            raise SentikitError(f"The member {name}, text {number} (from 0): {problem}")
        if sampled is not None and session is not None and given:
            text, _ = given.popleft()
            if session.sampling:
                sampled[id(member), text] = prediction
        yield prediction
    yield from (computed for _, computed in given if computed is not None)


def named(member: str, prediction: Prediction) -> str:
    """Return who answered: a member, or ``member/inner`` of a member that is itself an ensemble."""
    return "/".join(name for name in (member, prediction.answered_by) if name)


def refuse_other_classes(members: Mapping[str, Classifier], kind: str) -> None:
    """Refuse members with different classes; their order does not matter.

    Raises:
        InputError: names two members that differ.
    """
    first, *others = members
    for other in others:
        if set(members[first].labels) != set(members[other].labels):
            raise InputError(
                f"The members of a {kind} need the same classes; {first} has "
                f"{', '.join(members[first].labels)}, and {other} "
                f"{', '.join(members[other].labels)}."
            )
