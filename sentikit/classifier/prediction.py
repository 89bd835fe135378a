"""The classifier people use: texts in, labels and probabilities out, in batches of like length."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentikit.classifier.tokenizing import TokenizedTexts, tokenize
from sentikit.data.labels import LabelScheme

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from sentikit.classifier.predictor import Predictor

#: Texts read ahead, sorted by length and answered together: memory is flat, padding is rare.
#: The first window is small, so that answers to a pipe begin soon, and each is twice the last.
FIRST_WINDOW, LARGEST_WINDOW = 256, 8192


class BatchLimits(NamedTuple):
    """The size of one forward pass.

    Attributes:
        tokens: most word pieces, padding included.
        texts: most texts.
        padding: the most, as a share of the longest text, that a text may be filled up.
    """

    tokens: int
    texts: int
    padding: float = 1.0


#: By device. A CPU pays for every word piece of padding and little for one more pass.
BATCH_LIMITS = {
    "cpu": BatchLimits(2048, 64, 0.1),
    "cuda": BatchLimits(32768, 1024),
    "mps": BatchLimits(8192, 256),
}


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one text.

    Attributes:
        label: the predicted class.
        probabilities: class to probability, in logit order.
    """

    label: str
    probabilities: dict[str, float]


class Classifier:
    """A trained model that labels texts; as scikit-learn's, with streaming.

    Attributes:
        predictor: what computes the logits.
        tokenizer: a fast tokenizer.
        scheme: the classes, and the threshold where there is one.
        max_length: word pieces after which a text is cut.
        temperature: fitted on validation; None where it was not.
        calibrated: whether probabilities come from logits divided by `temperature`.
    """

    def __init__(
        self,
        predictor: Predictor,
        tokenizer: PreTrainedTokenizerBase,
        scheme: LabelScheme,
        max_length: int,
        temperature: float | None = None,
    ) -> None:
        self.predictor = predictor
        self.tokenizer = tokenizer
        self.scheme = scheme
        self.max_length = max_length
        self.temperature = temperature
        self.calibrated = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of `predict_proba`'s columns."""
        return self.scheme.classes

    @property
    def device(self) -> str:
        """Where it computes."""
        return self.predictor.device

    @property
    def precision(self) -> str:
        """In which precision it computes: fp32, bf16, fp16 or int8."""
        return self.predictor.precision

    def predict(self, texts: Iterable[str]) -> list[str]:
        """Return one label a text."""
        return [prediction.label for prediction in self.classify(texts)]

    def predict_proba(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """Return probabilities, (texts, classes), columns in `labels` order."""
        rows = [self.probabilities(logits) for logits in self.logits(texts)]
        return np.concatenate(rows) if rows else np.empty((0, len(self.labels)))

    def classify(self, texts: Iterable[str]) -> Iterator[Prediction]:
        """Yield a prediction a text, in order; reads `texts` some thousands ahead, no more."""
        for logits in self.logits(texts):
            yield from predictions(self.probabilities(logits), self.scheme)

    def logits(self, texts: Iterable[str]) -> Iterator[NDArray[np.float32]]:
        """Yield the logits of successive windows of texts, (texts, classes)."""
        for window in windows(texts):
            yield self.logits_of_texts(window)

    def logits_of_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the logits of some thousands of texts, (texts, classes)."""
        return self.logits_of(tokenize([texts], self.tokenizer, self.max_length))

    def logits_of(self, tokenized: TokenizedTexts) -> NDArray[np.float32]:
        """Return the logits of tokenised texts, (texts, classes)."""
        plan = list(batches_by_length(tokenized.lengths, *self.predictor.batch_limits))
        answers = self.predictor.logits(tokenized.batch(rows) for rows in plan)
        results = np.empty((len(tokenized), len(self.labels)), np.float32)
        for rows, logits in zip(plan, answers, strict=True):
            results[rows] = logits
        return results

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities that logits mean, both (texts, classes)."""
        return softmax(logits, (self.temperature or 1.0) if self.calibrated else 1.0)


def windows(texts: Iterable[str], processes: int = 1) -> Iterator[list[str]]:
    """Yield texts some thousands at a time for each of the processes that share them."""
    iterator, size = iter(texts), FIRST_WINDOW
    while window := list(islice(iterator, size * processes)):
        size = min(2 * size, LARGEST_WINDOW)
        yield window


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a forward pass runs in `precision`."""
    import torch

    if precision == "fp32":
        return contextlib.nullcontext()
    kind = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=kind)


def batches_by_length(
    lengths: NDArray[np.int64], most_tokens: int, most_rows: int, most_padding: float = 1.0
) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers of batches of like length, longest first; see `BatchLimits`.

    Longest first, so that memory is at its highest in the first batch and not in the last.
    """
    order = np.argsort(-lengths, kind="stable")
    falling = -lengths[order]
    start = 0
    while start < len(order):
        longest = max(1, -int(falling[start]))
        rows = min(most_rows, max(1, most_tokens // longest))
        alike = int(np.searchsorted(falling, -longest * (1 - most_padding), side="right")) - start
        yield order[start : start + max(1, min(rows, alike))]
        start += max(1, min(rows, alike))


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return probabilities, (texts, classes), of logits divided by `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def choose_classes(
    probabilities: NDArray[np.float64], threshold: float | None = None
) -> NDArray[np.int64]:
    """Return the predicted class numbers: the likeliest, or the second from `threshold` on."""
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1))
    return (probabilities[:, 1] >= threshold).astype(np.int64)


def predictions(probabilities: NDArray[np.float64], scheme: LabelScheme) -> Iterator[Prediction]:
    """Yield one prediction a row of probabilities."""
    chosen = choose_classes(probabilities, scheme.threshold)
    for row, winner in zip(probabilities.tolist(), chosen.tolist(), strict=True):
        yield Prediction(scheme.classes[winner], dict(zip(scheme.classes, row, strict=True)))
