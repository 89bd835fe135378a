"""The prompt context of texts: an adviser's predictions and similar labelled examples."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from sentikit.classifiers.classifier import Classifier, Example, Session, text_of
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.prediction import Prediction
from sentikit.errors import InputError
from sentikit.llm.retrieval import Retriever
from sentikit.llm.settings import StrategyOptions
from sentikit.llm.strategy import Needs, RetrievedExample
from sentikit.registry import Registry
from sentikit.runs.alignment import align_all
from sentikit.runs.folder import PREDICTIONS, LabelledSplit, recorded_manifest
from sentikit.runs.reading import read_run, split_suffix
from sentikit.runs.recorded import RecordedClassifier
from sentikit.runs.table import RunTable

#: Texts computed together: the first window, and the largest.
_FIRST_WINDOW, _LARGEST_WINDOW = 256, 4096


class PromptContext(NamedTuple):
    adviser: Prediction | None = None
    examples: tuple[RetrievedExample, ...] = ()


class Memory(Protocol):
    """Stores JSON values, so that a resumed job shows the same context."""

    def recall(self, key: str) -> Any: ...

    def remember(self, key: str, value: Any) -> None: ...


class ContextSource:
    """Gives each text of a stream its prompt context."""

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
                f"{adviser_name} has the classes {', '.join(adviser.labels)}; the dataset has "
                f"{', '.join(classes)}. Name an encoder with the same classes, or set another "
                "label scheme (dataset.labels)."
            )
        self.adviser = adviser
        #: Called with the number of texts computed since the last call.
        self.advance: Callable[[int], object] = lambda texts: None
        self._classes, self._name, self._retriever = classes, adviser_name, retriever
        self._drawn = drawn
        self._shared = retriever is not None and retriever.encoder is adviser

    def stream(
        self, examples: Iterable[str | Example], session: Session, memory: Memory | None = None
    ) -> Iterator[tuple[Example, PromptContext]]:
        """Yield each example with its context, in order; reads some thousands ahead."""
        whole = (item if isinstance(item, Example) else Example(item) for item in examples)
        # An encoder predicts whole windows of texts, below.
        streams = not isinstance(self.adviser, EncoderClassifier)
        advised = self._advised(whole, session) if streams else ((e, None) for e in whole)
        if streams and self._retriever is None:
            for example, prediction in advised:
                yield example, PromptContext(prediction, self._drawn)
            return
        size = _FIRST_WINDOW
        while window := list(islice(advised, size)):
            size = min(2 * size, _LARGEST_WINDOW)
            found = self._window([text_of(example) for example, _ in window], memory)
            for (example, streamed), (computed, shown) in zip(window, found, strict=True):
                yield example, PromptContext(streamed or computed, shown or self._drawn)

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

        for prediction in self.adviser.classify(reading(), session):
            yield read.popleft(), prediction.in_order_of(self._classes)

    def _window(
        self, texts: list[str], memory: Memory | None
    ) -> Iterator[tuple[Prediction | None, tuple[RetrievedExample, ...]]]:
        """Yield the encoder's prediction for each text, and the examples shown with it."""
        retriever = self._retriever
        identity = [self._classes, self._name, retriever and retriever.identity, texts]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        kept = None if memory is None else memory.recall(key)
        if kept is None:
            kept = self._compute(texts)
            self.advance(len(texts))
            if memory is not None:
                memory.remember(key, kept)
        shown = kept["shown"] or [()] * len(texts)
        predicted = kept["said"] or [None] * len(texts)
        for row, numbers in zip(predicted, shown, strict=True):
            prediction = None
            if row is not None:
                label, values = row
                probabilities = dict(zip(self._classes, values, strict=True))
                prediction = Prediction(self._classes[label], probabilities)
            yield prediction, retriever.pool.shown(numbers) if retriever else ()

    def _compute(self, texts: list[str]) -> dict[str, Any]:
        shown, computed = (None, None) if self._retriever is None else self._retriever.find(texts)
        if not self._shared:
            own = isinstance(self.adviser, EncoderClassifier)
            computed = list(self.adviser.classify(texts)) if own and self.adviser else []
        predicted = []
        for prediction in computed or ():
            known = prediction.in_order_of(self._classes)
            assert known.label is not None
            assert known.probabilities is not None
            predicted.append([self._classes.index(known.label), list(known.probabilities.values())])
        # The name of the key is that of earlier journals.
        return {"shown": shown, "said": predicted or None}


def recorded_adviser(
    options: StrategyOptions, split: LabelledSplit, needs: Needs, registry: Registry
) -> RecordedClassifier | None:
    """Return an adviser with recorded predictions, or None where its model must predict.

    A file and ``PATH#encoder`` must hold every example. If a run labelled other texts, its model
    predicts instead, where it has one.
    """
    assert options.adviser is not None
    path = Path(options.adviser).expanduser()
    must_be_recorded = _must_be_recorded(options.adviser)
    if not must_be_recorded and not (path / PREDICTIONS).is_file():
        return None
    table = read_run(
        options.adviser,
        label_column=options.label_column,
        probabilities_column=options.probabilities_column,
        registry=registry,
    )
    try:
        names = (split.name, table.name)
        rows = align_all(split.examples, table.examples, names, not table.has_texts)
    except InputError:
        if must_be_recorded or not _has_model(path, registry):
            raise
        return None
    # The cost of the records was paid by another run.
    table = replace(table.select(rows), raw=None, cost=None, tokens=None, adviser=None)
    _refuse_gaps(table, split, needs)
    return RecordedClassifier(table)


def _must_be_recorded(name: str) -> bool:
    plain, of_encoder = split_suffix(name)
    path = Path(plain).expanduser()
    return of_encoder or (path.is_file() and path.suffix not in (".yaml", ".yml"))


def _has_model(path: Path, registry: Registry) -> bool:
    from sentikit.classifiers.loading import find_model_folder

    try:
        find_model_folder(path, registry)
    except InputError:
        return False
    return True


def _refuse_gaps(table: RunTable, split: LabelledSplit, needs: Needs) -> None:
    total = len(split.examples)
    # Examples without text are not sent to the LLM.
    asked = np.fromiter((bool(text.strip()) for text in split.examples.values("text")), np.bool_)
    lacking = np.flatnonzero(asked & (table.answers.labels < 0))
    if needs.label and len(lacking):
        raise InputError(
            f"{table.name} has no valid label for {len(lacking):,} of {total:,} examples of "
            f"{split.name}, the first in row {int(lacking[0]) + 1}. Name an adviser with a label "
            "for every example."
        )
    probabilities = table.answers.probabilities
    if needs.probabilities and probabilities is None:
        raise InputError(
            f"{table.name} has labels but no probabilities, which the strategy shows. Name their "
            "column (strategy.probabilities_column), a model or another run."
        )
    known = probabilities is None or np.isfinite(probabilities).all(1)
    unknown = np.flatnonzero(asked & ~np.atleast_1d(known))
    if needs.probabilities and len(unknown):
        raise InputError(
            f"{table.name} has no probabilities for {len(unknown):,} of {total:,} examples, the "
            f"first in row {int(unknown[0]) + 1}. Name an adviser with probabilities for every "
            "example."
        )


def load_encoder(name: str, registry: Registry) -> EncoderClassifier:
    from sentikit.classifiers.loading import load_encoder

    if _must_be_recorded(name):
        raise no_embeddings(name)
    path = Path(name).expanduser()
    if not path.exists():
        raise InputError(
            f"The encoder {name} does not exist. Train it (sentikit train writes runs/RECIPE), or "
            "name another model, run or results file with strategy.adviser."
        )
    return load_encoder(path, registry=registry)


def no_embeddings(name: str) -> InputError:
    return InputError(
        f"{name} is a file or run of recorded answers, but finding similar examples takes a "
        "model's embeddings. Name the model with strategy.examples.encoder."
    )


def encoder_cost(name: str | None) -> float:
    """Return the encoder's training cost in USD from its run's manifest; 0 if unknown."""
    costs = recorded_manifest(name).get("cost_usd") or {} if name else {}
    return float(sum(value for value in costs.values() if value))
