"""Comparison of a graph with the torch model it was made from."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sentikit import SentikitError, open_dataset

if TYPE_CHECKING:
    from sentikit.extension import EncoderClassifier, ExportSource

#: Number of compared texts: enough to see a few percent, few enough for a large encoder.
MOST_TEXTS = 256
_TOGETHER = 16
#: With logits closer than this, either label is accepted.
TOLERANCE = 1e-3
_SENTENCES = (
    "I love it.",
    "The food was cold, the waiter rude, and we shall not go back.",
    "They open at nine on weekdays.",
    "Not bad at all, though the second half of the film drags on and on before it ends well.",
    "",
    "?!",
    "café — délicieux",
)


def sample_texts(source: ExportSource) -> list[str]:
    """Return texts of the run's test split, or of the dataset demo."""
    path = source.run / "predictions.jsonl" if source.run else None
    if path is None or not path.is_file():
        return [*_SENTENCES, *open_dataset("demo").split("train").texts[:MOST_TEXTS]]
    with path.open(encoding="utf-8") as lines:
        return [*_SENTENCES, *(json.loads(line)["text"] for line in islice(lines, MOST_TEXTS))]


def check_graph(
    torch_classifier: EncoderClassifier, graph: EncoderClassifier, texts: list[str]
) -> str:
    """Check that the graph gives the same labels, and return a message.

    Raises:
        SentikitError: it gives other labels.
    """
    expected, found = _logits(torch_classifier, texts), _logits(graph, texts)
    top_two = np.sort(expected, axis=1)[:, -2:]
    clear = top_two[:, 1] - top_two[:, 0] > TOLERANCE
    changed = clear & (expected.argmax(1) != found.argmax(1))
    if changed.any():
        raise SentikitError(
            f"The ONNX graph gives another label than the torch model for {int(changed.sum())} of "
            f"{len(texts)} texts: this encoder cannot be exported faithfully."
        )
    largest = float(np.abs(expected - found).max())
    return (
        f"model.onnx gives the same label for all {len(texts)} texts compared "
        f"(largest difference of a logit: {largest:.1e})."
    )


def count_changes(
    torch_classifier: EncoderClassifier, graph: EncoderClassifier, texts: list[str]
) -> str:
    """Return a message with the number of labels that quantisation changes."""
    expected, found = _logits(torch_classifier, texts), _logits(graph, texts)
    changed = int((expected.argmax(1) != found.argmax(1)).sum())
    return (
        f"model.int8.onnx changes {changed} of {len(texts)} labels; "
        "it is used with --precision int8."
    )


def batches_of(
    classifier: EncoderClassifier, texts: list[str]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return ids and mask of texts, in batches."""
    tokenized = classifier.tokenized(texts)
    rows = np.arange(len(tokenized))
    starts = range(0, len(rows), _TOGETHER)
    return [tokenized.arrays(rows[start : start + _TOGETHER]) for start in starts]


def _logits(classifier: EncoderClassifier, texts: list[str]) -> NDArray[np.float32]:
    return np.concatenate(list(classifier.logits(texts)))
