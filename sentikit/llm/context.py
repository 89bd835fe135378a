"""The prompt context of texts: what an adviser predicts, and labelled examples like them."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sentikit.classifiers.classifier import Classifier, Example, Session, text_of
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.prediction import Prediction
from sentikit.errors import InputError
from sentikit.files import atomic_writer
from sentikit.llm.retrieval import Retriever
from sentikit.llm.strategy import RetrievedExample

if TYPE_CHECKING:
    pass

#: Texts that a model reads together: the first window, and the largest.
_FIRST_WINDOW, _LARGEST_WINDOW = 256, 4096


@dataclass(frozen=True)
class PromptContext:
    """What a prompt may show beside the text.

    Attributes:
        adviser: what the adviser predicts, or None.
        examples: labelled texts like this one, the most alike first (or class by class).
    """

    adviser: Prediction | None = None
    examples: tuple[RetrievedExample, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        said = self.adviser and [self.adviser.label, self.adviser.probabilities]
        return {"adviser": said, "examples": [[own.text, own.label] for own in self.examples]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PromptContext:
        """Return the context of plain values."""
        said = values["adviser"] and Prediction(*values["adviser"])
        return cls(said, tuple(RetrievedExample(*own) for own in values["examples"]))


class Memory(Protocol):
    """Keeps JSON values, so that a resumed job shows the very same context."""

    def recall(self, key: str) -> Any:
        """Return the value of a key, or None."""

    def remember(self, key: str, value: Any) -> None:
        """Keep a value."""


class ContextSource:
    """Gives each text of a stream its prompt context.

    Args:
        classes: the labels a prompt asks to choose from.
        adviser: what predicts a label for the prompt, or None.
        adviser_name: what identifies it.
        retriever: what finds examples, or None.
        drawn: examples that every prompt shows.

    Attributes:
        advance: told how many texts a model read since the last call.

    Raises:
        InputError: the adviser has other classes.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        adviser: Classifier | None = None,
        adviser_name: str = "",
        retriever: Retriever | None = None,
        drawn: tuple[RetrievedExample, ...] = (),
    ) -> None:
        if adviser is not None and sorted(adviser.labels) != sorted(classes):
            raise InputError(
                f"{adviser_name} knows the classes {', '.join(adviser.labels)}; the dataset has "
                f"{', '.join(classes)}. Take an encoder of the same classes, or another label "
                "scheme (dataset.labels)."
            )
        self.adviser = adviser
        self.advance: Callable[[int], object] = lambda texts: None
        self._classes, self._name, self._retriever = classes, adviser_name, retriever
        self._drawn = drawn
        self._together = retriever is not None and retriever.encoder is adviser

    def stream(
        self, examples: Iterable[str | Example], session: Session, memory: Memory | None = None
    ) -> Iterator[tuple[Example, PromptContext]]:
        """Yield each example with its context, in order, some thousands read ahead.

        Args:
            examples: texts or examples.
            session: for an adviser that asks an LLM.
            memory: keeps what models computed.
        """
        whole = (item if isinstance(item, Example) else Example(item) for item in examples)
        computed = isinstance(self.adviser, EncoderClassifier)
        advised = self._advised(whole, session) if not computed else ((e, None) for e in whole)
        if not computed and self._retriever is None:
            for example, said in advised:
                yield example, PromptContext(said, self._drawn)
            return
        for window in _windows(advised):
            found = self._window([text_of(example) for example, _ in window], memory)
            for (example, said), (computed_said, shown) in zip(window, found, strict=True):
                yield example, PromptContext(said or computed_said, shown or self._drawn)

    def _advised(
        self, examples: Iterator[Example], session: Session
    ) -> Iterator[tuple[Example, Prediction | None]]:
        if self.adviser is None:
            for example in examples:
                yield example, None
            return
        read: deque[Example] = deque()

        def reading() -> Iterator[Example]:
            for example in examples:
                read.append(example)
                yield example

        for said in self.adviser.classify(reading(), session):
            yield read.popleft(), self._ordered(said)

    def _window(
        self, texts: list[str], memory: Memory | None
    ) -> Iterator[tuple[Prediction | None, tuple[RetrievedExample, ...]]]:
        """Yield what models compute of some texts: the prediction, and the examples shown."""
        key = self._key(texts)
        kept = None if memory is None else memory.recall(key)
        if kept is None:
            kept = self._compute(texts)
            if memory is not None:
                memory.remember(key, kept)
        self.advance(len(texts))
        shown = kept["shown"] or [()] * len(texts)
        said = kept["said"] or [None] * len(texts)
        pool = self._retriever.shown if self._retriever else ()
        for row, numbers in zip(said, shown, strict=True):
            prediction = None
            if row is not None:
                label, values = row
                probabilities = dict(zip(self._classes, values, strict=True))
                prediction = Prediction(self._classes[label], probabilities)
            yield prediction, tuple(pool[number] for number in numbers)

    def _compute(self, texts: list[str]) -> dict[str, Any]:
        shown: list[list[int]] | None = None
        said: list[Prediction] = []
        if self._retriever is not None:
            shown, said = self._retriever.find(texts)
        if isinstance(self.adviser, EncoderClassifier) and not self._together:
            said = list(self.adviser.classify(texts))
        elif not self._together:
            said = []
        rows = [self._ordered(prediction) for prediction in said]
        return {"shown": shown, "said": [self._numbers(row) for row in rows] or None}

    def _numbers(self, said: Prediction) -> list[Any]:
        assert said.label is not None
        assert said.probabilities is not None
        return [self._classes.index(said.label), list(said.probabilities.values())]

    def _ordered(self, said: Prediction) -> Prediction:
        """Return a prediction with the probabilities in the order of the prompt's classes."""
        known = said.probabilities
        if known is None or tuple(known) == self._classes:
            return said
        ordered = {name: known[name] for name in self._classes}
        return Prediction(**{**said.__dict__, "probabilities": ordered})

    def _key(self, texts: list[str]) -> str:
        retriever = self._retriever.identity if self._retriever else None
        identity = json.dumps([self._classes, self._name, retriever, texts])
        return hashlib.sha256(identity.encode()).hexdigest()


def kept_contexts(
    path: Path, identity: Any, compute: Callable[[], Iterable[PromptContext]]
) -> Iterator[PromptContext]:
    """Yield contexts out of a file, which is written first where it is not there or another's.

    Args:
        path: JSON Lines, the first of them `identity`.
        identity: all that decides the contexts, as JSON values.
        compute: gives the contexts, all of them.
    """
    first = json.dumps(identity) + "\n"
    if not path.is_file() or _first_line(path) != first:
        with atomic_writer(path) as stream:
            stream.write(first)
            for context in compute():
                stream.write(json.dumps(context.to_json()) + "\n")
    with path.open(encoding="utf-8") as stream:
        stream.readline()
        for line in stream:
            yield PromptContext.from_json(json.loads(line))


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as stream:
        return stream.readline()


def _windows(
    pairs: Iterator[tuple[Example, Prediction | None]],
) -> Iterator[list[tuple[Example, Prediction | None]]]:
    size = _FIRST_WINDOW
    while window := list(islice(pairs, size)):
        size = min(2 * size, _LARGEST_WINDOW)
        yield window
