"""The contract of a classifier: texts in, predictions out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.prediction import Prediction, prediction_problem
from sentikit.errors import InputError, SentikitError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sentikit.datasets.labels import LabelScheme


@dataclass(frozen=True, slots=True)
class Example:
    """One text to label.

    Attributes:
        text: what is labelled.
        id: of the row; "" where it has none.
        source: where the text comes from, or None.
        columns: the row's other columns, by name.
    """

    text: str
    id: str = ""
    source: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


class Session:
    """What the classifiers of one labelling job share.

    A classifier that costs nothing may ignore it. One that pays takes its journal, its budget and
    its progress from the subclass that `sentikit.labelling` opens.

    Attributes:
        stop_requested: whether the user asked to stop; checked several times a second.
        known: what encoders have computed, by their ids: a job does not compute again what its
            cost was estimated from. None where nothing is estimated.
    """

    stop_requested: Callable[[], bool] = staticmethod(lambda: False)
    known: dict[int, Any] | None = None

    @property
    def members(self) -> Sequence[object]:
        """The LLMs asked so far."""
        return ()


class Classifier(ABC):
    """Anything that labels texts: an encoder, an LLM, recorded answers, a cascade, a vote.

    A subclass provides `scheme` and `classify`.

    Attributes:
        members: the classifiers it asks, by name.
        asks_llm: whether it asks an LLM itself.
    """

    members: Mapping[str, Classifier] = MappingProxyType({})
    asks_llm = False

    @property
    @abstractmethod
    def scheme(self) -> LabelScheme:
        """The classes, and the threshold where there is one."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the columns of `predict_proba`."""
        return self.scheme.classes

    @abstractmethod
    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield one prediction for each example, in order.

        Memory stays flat: an implementation reads a bounded number of examples ahead. An example
        that cannot be labelled yields a prediction whose `label` is None, with `error` set where
        asking again may help.

        Args:
            examples: texts, or examples with ids and columns; any number.
            session: shared by the classifiers of one labelling job; None outside of a job.

        Raises:
            InputError: an item is neither a text nor an example.
        """

    def prepare(self, session: Session) -> None:
        """Get ready for a job before it writes anything; by default let the members do so.

        Raises:
            InputError: it cannot work: a missing key, no such server, a wrong model.
        """
        for member in self.members.values():
            member.prepare(session)

    def describe(self) -> dict[str, Any]:
        """Return what decides the labels, as JSON values: a resumed job compares them."""
        members = {name: member.describe() for name, member in self.members.items()}
        return {"classifier": type(self).__name__} | ({"members": members} if members else {})

    def predict(self, texts: Iterable[str | Example]) -> list[str | None]:
        """Return the label of each text; None where the classifier gives none."""
        return [prediction.label for prediction in self.classify(texts)]

    def predict_proba(self, texts: Iterable[str | Example]) -> NDArray[np.float64]:
        """Return probabilities, (texts, labels), columns in `labels` order.

        Raises:
            InputError: the classifier gives no probabilities for a text.
        """
        import numpy as np

        rows = []
        for row, prediction in enumerate(self.classify(texts)):
            if prediction.probabilities is None:
                raise InputError(
                    f"This classifier gives no probabilities for item {row} (from 0); use "
                    "predict() or classify()."
                )
            rows.append([prediction.probabilities[label] for label in self.labels])
        return np.array(rows, np.float64).reshape(-1, len(self.labels))


def asks_llms(classifier: Classifier) -> bool:
    """Return whether a classifier or a member of it asks an LLM."""
    return classifier.asks_llm or any(map(asks_llms, classifier.members.values()))


def text_of(item: str | Example) -> str:
    return item.text if isinstance(item, Example) else item


def checked(
    name: str,
    classifier: Classifier,
    examples: Iterable[str | Example],
    session: Session | None = None,
) -> Generator[tuple[str | Example, Prediction], None, None]:
    """Yield each example with its prediction; `name` is what messages call the classifier.

    Raises:
        SentikitError: there are too few predictions or too many, or one is malformed.
    """
    source, given, number = iter(examples), deque[str | Example](), 0

    def noted() -> Iterator[str | Example]:
        for example in source:
            given.append(example)
            yield example

    classes = frozenset(classifier.labels)
    answers = classifier.classify(noted(), session)
    try:
        for number, prediction in enumerate(answers, 1):
            if not given:
                raise SentikitError(f"{name} gave more predictions than it was given texts.")
            problem = prediction_problem(prediction, classes)
            if problem:
                raise SentikitError(f"{name}, text {number - 1} (from 0): {problem}")
            yield given.popleft(), prediction
    finally:
        # Calls under way are paid: a generator of an LLM waits for them as it closes.
        close: Callable[[], Any] = getattr(answers, "close", lambda: None)
        close()
    if given or next(source, None) is not None:
        raise SentikitError(
            f"{name} gave {number:,} predictions and was given more texts. It must give one for "
            "each text; Prediction(None, error=…) where it cannot."
        )
