"""The encoder classifier, in one process or several."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batches import (
    BatchLimits,
    LongTexts,
    TokenizedTexts,
    Tokenizer,
    as_tokenizer,
    batches_by_length,
    tokenize,
)
from sentikit.classifiers.classifier import Classifier, Example, Session, text_of
from sentikit.classifiers.prediction import Prediction, predictions, softmax
from sentikit.datasets.labels import LabelScheme
from sentikit.errors import InputError, SentikitError
from sentikit.files import folder_checksum

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sentikit.processes.group import ProcessGroup

#: Windows of texts that are read ahead, sorted by length and classified together. The first is
#: small, so that answers to a pipe begin soon; each is twice as large as the last.
FIRST_WINDOW, LARGEST_WINDOW = 256, 8192
_MOST_DISTINCT = 16_384
#: Lone surrogates, which no tokenizer can read.
_SURROGATE = re.compile("[\ud800-\udfff]")


class Predictor(Protocol):
    """Computes the logits of padded batches, with torch or another runtime."""

    @property
    def device(self) -> str:
        """The device, such as ``cpu`` or ``cuda:0``."""

    @property
    def precision(self) -> str:
        """The precision: fp32, bf16, fp16 or int8."""

    @property
    def batch_limits(self) -> BatchLimits:
        """The size of one pass."""

    def logits(
        self, batches: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]
    ) -> list[NDArray[np.float32]]:
        """Return the logits, (texts, classes), of each batch.

        Args:
            batches: ids and mask, both (texts, word pieces).
        """


class EncoderClassifier(Classifier):
    """A trained encoder that labels texts.

    Attributes:
        predictor: computes the logits.
        tokenizer: the tokenizer from transformers, loaded on first use.
        word_pieces: the tokenizer in use.
        max_length: maximum word pieces of a text.
        temperature: fitted on validation, or None.
        long_texts: treatment of longer texts: cut, head_tail or chunks.
        calibrated: whether logits are divided by `temperature`.
        folder: the model folder it was loaded from, or None.
        label_map: the map of the model's labels to classes that it was loaded with, or None.
        cut: number of truncated texts so far.
        unknown: number of texts so far with mostly unknown tokens.
    """

    def __init__(
        self,
        predictor: Predictor,
        tokenizer: Tokenizer | PreTrainedTokenizerBase,
        scheme: LabelScheme,
        max_length: int,
        temperature: float | None = None,
        long_texts: LongTexts = "cut",
    ) -> None:
        self.predictor = predictor
        self.word_pieces = as_tokenizer(tokenizer)
        self._scheme = scheme
        self.max_length = max_length
        self.temperature = temperature
        self.long_texts = long_texts
        self._computing = threading.Lock()
        self.calibrated = False
        self.folder: Path | None = None
        self.label_map: dict[str, str] | None = None
        self.cut = self.unknown = 0

    def __getstate__(self) -> dict[str, Any]:
        # A lock cannot be pickled; a copy in another process gets its own.
        return {name: value for name, value in vars(self).items() if name != "_computing"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _computing=threading.Lock())

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer from transformers."""
        return self.word_pieces.pretrained

    @property
    def scheme(self) -> LabelScheme:
        return self._scheme

    @property
    def device(self) -> str:
        """The device."""
        return self.predictor.device

    @property
    def precision(self) -> str:
        """The precision: fp32, bf16, fp16 or int8."""
        return self.predictor.precision

    def describe(self) -> dict[str, Any]:
        files = None if self.folder is None else folder_checksum(self.folder)
        described = super().describe() | {"files": files, "calibrated": self.calibrated}
        return described | ({"label_map": self.label_map} if self.label_map else {})

    def predict_proba(self, texts: Iterable[str | Example]) -> NDArray[np.float64]:
        rows = [self.probabilities(logits) for logits in self.logits(texts)]
        return np.concatenate(rows) if rows else np.empty((0, len(self.labels)))

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield one prediction for each example; reads some thousands of texts ahead.

        A text without words gets the model's label for an empty input.
        """
        known = None if session is None else session.known
        for logits in self.logits(examples, known):
            yield from predictions(self.probabilities(logits), self.scheme)

    def logits(
        self, texts: Iterable[str | Example], known: dict[int, Any] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the logits of successive windows of texts, (texts, classes).

        Equal texts are computed once, across calls with the same `known`. While one window is
        computed, the next one is tokenized and a further one is read.
        """
        waiting: deque[tuple[_Distinct, NDArray[np.intp], Future[NDArray[np.float32]]]] = deque()
        kept = {} if known is None else known
        distinct, stopped = kept.pop(id(self), None) or _Distinct(), threading.Event()
        with ThreadPoolExecutor(2, "sentikit-encoder") as threads:
            try:
                for window in windows(texts, ready=lambda: bool(waiting) and waiting[0][2].done()):
                    if window:
                        distinct = distinct.renewed()
                        new, places = distinct.met(window)
                        future = threads.submit(self.logits_of_texts, new, stopped)
                        waiting.append((distinct, places, future))
                    while waiting and (len(waiting) > 2 or waiting[0][2].done()):
                        met, places, future = waiting.popleft()
                        yield met.logits(places, future.result())
                while waiting:
                    met, places, future = waiting.popleft()
                    yield met.logits(places, future.result())
                kept[id(self)] = distinct
            finally:
                stopped.set()  # After Ctrl-C, a window ends with its current batch.
                for _, _, future in waiting:
                    future.cancel()

    def logits_of_texts(
        self, texts: Sequence[str], stopped: threading.Event | None = None
    ) -> NDArray[np.float32]:
        """Return the logits of up to some thousands of texts, (texts, classes).

        Args:
            texts: the texts to label.
            stopped: stops the computation when set.

        Raises:
            CancelledError: `stopped` was set before the end.
        """
        if not texts:  # The last window may have fewer texts than there are processes.
            return np.empty((0, len(self.labels)), np.float32)
        tokenized = self.tokenized(texts)
        with self._computing:
            self.cut, self.unknown = self.cut + tokenized.cut, self.unknown + tokenized.unknown
            return tokenized.by_text(self.logits_of(tokenized, stopped))

    def tokenized(self, texts: Sequence[str]) -> TokenizedTexts:
        """Return the word pieces of texts as the model reads them."""
        return tokenize([texts], self.word_pieces, self.max_length, self.long_texts)

    def logits_of(
        self, tokenized: TokenizedTexts, stopped: threading.Event | None = None
    ) -> NDArray[np.float32]:
        """Return the logits of tokenised texts or chunks, (rows, classes).

        Raises:
            SentikitError: the model gives another shape, or NaN.
        """
        plan = list(batches_by_length(tokenized.lengths, *self.predictor.batch_limits))

        def batches() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
            for rows in plan:
                if stopped is not None and stopped.is_set():
                    raise CancelledError
                yield tokenized.arrays(rows)

        answers = self.predictor.logits(batches())
        results = np.empty((len(tokenized), len(self.labels)), np.float32)
        for rows, logits in zip(plan, answers, strict=True):
            if logits.shape != (len(rows), len(self.labels)) or not np.isfinite(logits).all():
                raise SentikitError(
                    f"The model {self.folder or ''} gave logits of shape {logits.shape}, or NaN or "
                    f"infinite ones, instead of finite ones of shape "
                    f"{(len(rows), len(self.labels))}. Check that its head's plugin has the "
                    "version it was trained with."
                )
            results[rows] = logits
        return results

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities of logits, both (texts, classes)."""
        return softmax(logits, (self.temperature or 1.0) if self.calibrated else 1.0)


class _Distinct:
    """Distinct texts and their logits, so that equal texts are computed once."""

    def __init__(self) -> None:
        self._places: dict[str | bytes, int] = {}
        self._logits: NDArray[np.float32] | None = None

    def renewed(self) -> _Distinct:
        """Return an empty instance if this one has many texts, to bound the memory."""
        return self if len(self._places) <= _MOST_DISTINCT else _Distinct()

    def met(self, texts: Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
        """Return the new texts, and the place of each text's logits."""
        new, places = [], np.empty(len(texts), np.intp)
        for number, text in enumerate(texts):
            key = text if len(text) <= 64 else blake2b(text.encode(), digest_size=16).digest()
            if key not in self._places:
                self._places[key] = len(self._places)
                new.append(text)
            places[number] = self._places[key]
        return new, places

    def logits(self, places: NDArray[np.intp], new: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits at some places, given those of the new texts."""
        known = new if self._logits is None else np.concatenate([self._logits, new])
        self._logits = known
        return known[places]


def windows(
    texts: Iterable[str | Example], processes: int = 1, ready: Callable[[], bool] = lambda: False
) -> Iterator[list[str]]:
    """Yield windows of texts, some thousands for each of the processes that share them.

    If `ready` is true before a window is complete, an empty one comes first, so that answers to a
    slow pipe do not wait for further texts.
    """
    if isinstance(texts, str):
        raise InputError("texts must be a list of strings, not one string. Give [text].")
    size, window, read = FIRST_WINDOW, list[str](), 0
    for text in map(text_of, texts):
        window.append(text)
        read += 1
        if len(window) == size * processes:
            _check_texts(window, read - len(window))
            yield window
            window, size = [], min(2 * size, LARGEST_WINDOW)
        elif ready():
            yield []
    if window:
        _check_texts(window, read - len(window))
        yield window


def _check_texts(texts: Sequence[object], before: int) -> None:
    for place, text in enumerate(texts, before):
        if not isinstance(text, str):
            raise InputError(
                f"Item {place} (from 0) is {text!r}, not a string. Give a list of strings, without "
                "missing values."
            )
        if not text.isascii() and _SURROGATE.search(text):
            raise InputError(
                f"Item {place} (from 0) is not valid Unicode: it contains half a surrogate pair. "
                "Read the text again with the right encoding."
            )


class SharedClassifier(EncoderClassifier):
    """A classifier with a copy in every process of a group.

    All processes read the same texts in step, and each labels every n-th text of a window.
    """

    def __init__(self, own: EncoderClassifier, group: ProcessGroup) -> None:
        self.__setstate__(own.__getstate__())
        self._own, self._group = own, group

    def logits(
        self, texts: Iterable[str | Example], known: dict[int, Any] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        distinct = _Distinct()
        for window in windows(texts, self._group.processes):
            distinct = distinct.renewed()
            new, places = distinct.met(window)
            for other, size in enumerate(
                self._group.gather(np.array([len(window), len(new)], np.float32))
            ):
                if size.tolist() != [len(window), len(new)]:
                    raise InputError(
                        f"Process {other} reads other texts than process {self._group.rank}. Give "
                        "every machine the same file."
                    )
            yield distinct.logits(places, self._shared(new))

    def _shared(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rank, processes = self._group.rank, self._group.processes
        found = np.empty((len(texts), len(self.labels)), np.float32)
        own = self._own
        before = own.cut, own.unknown
        pieces = self._group.gather(own.logits_of_texts(texts[rank::processes]))
        more = self._group.sum([own.cut - before[0], own.unknown - before[1]])
        self.cut, self.unknown = self.cut + int(more[0]), self.unknown + int(more[1])
        for other, piece in enumerate(pieces):
            found[other::processes] = piece
        return found
