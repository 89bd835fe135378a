"""The cascade: a classifier answers where it is confident, the next one elsewhere.

This is selective classification by the top probability (Chow 1970, On optimum recognition error and
reject tradeoff), with rejected texts sent to another classifier.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from sentikit.classifiers.classifier import Classifier, Example, Session, checked
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.labels import LabelScheme
from sentikit.errors import InputError

#: Predictions held back while the last member works on an earlier example.
MOST_PENDING = 8192


class Cascade(Classifier):
    """Classifiers that each answer where they are confident; the last answers the rest.

    Each member but the last has a threshold, the lowest certainty at which it answers. A member
    without a label does not answer. Examples stream through all members, in order and in constant
    memory. If a later member answers, `Prediction.adviser` is the first one's prediction.
    """

    def __init__(self, members: Mapping[str, Classifier], thresholds: Sequence[float]) -> None:
        refuse_unfit(members, "cascade")
        if len(thresholds) != len(members) - 1:
            raise InputError(
                f"A cascade of {len(members)} members needs {len(members) - 1} thresholds, one for "
                f"each member but the last; {len(thresholds)} given."
            )
        self.members, self.thresholds = dict(members), tuple(thresholds)
        (self._name, self._first), (self._last_name, self._last) = islice(members.items(), 2)
        if len(members) > 2:
            rest = dict(islice(members.items(), 1, None))
            self._last_name, self._last = "", Cascade(rest, thresholds[1:])

    @property
    def scheme(self) -> LabelScheme:
        return self._first.scheme

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"thresholds": list(self.thresholds)}

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        firsts = member_predictions(self._name, self._first, examples, session)
        # The last member may read unsure examples in another thread than the consumer of
        # predictions; this deque is all they share.
        pending: deque[tuple[bool, Prediction]] = deque()
        exhausted, labels = False, self.labels

        def unsure() -> Iterator[str | Example]:
            """Yield unsure examples until many are pending, so that the last member finishes."""
            nonlocal exhausted
            for example, prediction in firsts:
                certainty = prediction.certainty
                sure = self.is_sure(prediction, certainty)
                pending.append((sure, prediction))
                if not sure:
                    yield example
                if len(pending) >= MOST_PENDING:
                    return
            exhausted = True

        while not exhausted:
            passed = unsure()
            answers: Iterable[tuple[str | Example, Prediction]] = ()
            first = next(passed, None)
            if first is not None:  # Without unsure examples, the last member is not called.
                rest = chain([first], passed)
                answers = member_predictions(self._last_name, self._last, rest, session)
            for _, answer in answers:
                while pending[0][0]:
                    yield pending.popleft()[1].of_member(self._name).in_order_of(labels)
                passed_on, own = pending.popleft()[1], answer.of_member(self._last_name)
                error = own.error
                if error is None and passed_on.error is not None:
                    error = passed_on.of_member(self._name).error
                merged = own.with_costs_of([passed_on]).in_order_of(labels)
                yield dataclasses.replace(merged, adviser=passed_on, error=error)
            while pending and pending[0][0]:
                yield pending.popleft()[1].of_member(self._name).in_order_of(labels)

    def is_sure(self, prediction: Prediction, certainty: float | None) -> bool:
        """Return whether the first member's prediction is final."""
        threshold = self.thresholds[0]
        if prediction.label is None:
            # A pending row has a confidence and is not passed on yet.
            return (prediction.confidence or 0.0) >= max(threshold, 1e-9)
        if certainty is None:
            raise InputError(
                f"{self._name} gives neither probabilities nor a confidence, which a cascade "
                "needs. Name it last, or use PATH#encoder of an augmented run, a vote, or an LLM "
                "with log-probabilities or with llm.samples above 1 and a llm.temperature."
            )
        return certainty >= threshold


def member_predictions(
    name: str, member: Classifier, examples: Iterable[str | Example], session: Session | None
) -> Iterator[tuple[str | Example, Prediction]]:
    """Yield each example with a member's checked prediction."""
    title = f"The member {name}" if name else "The rest of the cascade"
    return checked(title, member, examples, session)


def refuse_unfit(members: Mapping[str, Classifier], kind: str) -> None:
    """Refuse a single member, and members with different classes in any order."""
    if len(members) < 2:
        raise InputError(f"A {kind} needs at least two members, not {len(members)}.")
    first, *others = members
    for other in others:
        if set(members[first].labels) != set(members[other].labels):
            raise InputError(
                f"The members of a {kind} need the same classes; {first} has "
                f"{', '.join(members[first].labels)}, and {other} "
                f"{', '.join(members[other].labels)}."
            )
