"""The interface of classifiers: texts in, predictions out."""

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
        text: the text to label.
        id: the row's id, or "".
        source: the text's source, or None.
        columns: the row's other columns, by name.
    """

    text: str
    id: str = ""
    source: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


class Session:
    """The state that the classifiers of one labelling job share.

    A classifier without cost may ignore it. One with cost gets its journal, budget and progress
    from the subclass that `sentikit.labelling` opens.

    Attributes:
        stop_requested: whether the user asked to stop; checked several times a second.
        known: results of encoders during the estimate, by their ids, which the job reuses; None
            without an estimate.
    """

    stop_requested: Callable[[], bool] = staticmethod(lambda: False)
    known: dict[int, Any] | None = None

    @property
    def members(self) -> Sequence[object]:
        """The LLMs asked so far."""
        return ()

    @property
    def limited(self) -> bool:
        """Whether the job has a budget or sends batches."""
        return False


class Classifier(ABC):
    """Anything that labels texts: an encoder, an LLM, recorded answers, a cascade, a vote.

    A subclass implements `scheme` and `classify`.

    Attributes:
        members: the classifiers it uses, by name.
        asks_llm: whether it calls an LLM itself.
        source: what it was loaded from, or "".
        job: the session of a job whose plugin may call this member without it.
    """

    members: Mapping[str, Classifier] = MappingProxyType({})
    asks_llm = False
    source = ""
    job: Session | None = None

    def __repr__(self) -> str:
        described = [type(self).__name__, repr(self.source) if self.source else ""]
        described += [f"of {', '.join(self.members)}"] if self.members else []
        return f"<{' '.join(filter(None, described))}: {', '.join(self.labels)}>"

    @property
    @abstractmethod
    def scheme(self) -> LabelScheme:
        """The classes, and the threshold if there is one."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the columns of `predict_proba`."""
        return self.scheme.classes

    @abstractmethod
    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield one prediction for each example, in order.

        An implementation reads a bounded number of examples ahead. An example that cannot be
        labelled yields a prediction whose `label` is None, with `error` set if trying again may
        help.

        Args:
            examples: texts, or examples with ids and columns; any number.
            session: shared by the classifiers of one labelling job; None outside of a job.

        Raises:
            InputError: an item is neither a string nor an example.
        """

    def prepare(self, session: Session) -> None:
        """Prepare for a job before it writes anything; by default prepare the members.

        Raises:
            InputError: a missing key, an unreachable server, a wrong model.
        """
        for member in self.members.values():
            member.prepare(session)

    def describe(self) -> dict[str, Any]:
        """Return what determines the labels, as JSON values; a resumed job compares them."""
        members = {name: member.describe() for name, member in self.members.items()}
        return {"classifier": type(self).__name__} | ({"members": members} if members else {})

    def predict(self, texts: Iterable[str | Example]) -> list[str | None]:
        """Return the label of each text, or None."""
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
                    f"This classifier gives no probabilities for item {row} (from 0). Use "
                    "predict() or classify()."
                )
            rows.append([prediction.probabilities[label] for label in self.labels])
        return np.array(rows, np.float64).reshape(-1, len(self.labels))


def asks_llms(classifier: Classifier) -> bool:
    """Return whether a classifier or one of its members calls an LLM."""
    return classifier.asks_llm or any(map(asks_llms, classifier.members.values()))


def text_of(item: str | Example) -> str:
    return item.text if isinstance(item, Example) else item


def checked(
    name: str,
    classifier: Classifier,
    examples: Iterable[str | Example],
    session: Session | None = None,
) -> Generator[tuple[str | Example, Prediction], None, None]:
    """Yield each example with its prediction; `name` is the classifier's name in messages.

    Raises:
        SentikitError: there are too few or too many predictions, or one is malformed.
    """
    source, given, number = iter(examples), deque[str | Example](), 0

    def noted() -> Iterator[str | Example]:
        for example in source:
            given.append(example)
            yield example

    classes = frozenset(classifier.labels)
    answers: Any = classifier.classify(noted(), session)
    if not isinstance(answers, Iterable):
        raise SentikitError(f"{name} returned {answers!r}; classify must yield predictions.")
    try:
        for number, prediction in enumerate(answers, 1):
            if not given:
                raise SentikitError(f"{name} gave more predictions than it was given texts.")
            problem = prediction_problem(prediction, classes)
            if problem:
                raise SentikitError(f"{name}, text {number - 1} (from 0): {problem}")
            yield given.popleft(), prediction
    finally:
        # An LLM's generator waits for calls in flight when it closes, because they are paid.
        close: Callable[[], Any] = getattr(answers, "close", lambda: None)
        close()
    if given or next(source, None) is not None:
        raise SentikitError(
            f"{name} gave {number:,} predictions, but was given more texts. It must give one for "
            "each text, if necessary Prediction(None, error=…)."
        )
