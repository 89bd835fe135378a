"""The classifier that several processes share: each labels a part and receives all predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.classifier import Example
from sentikit.classifiers.encoder_classifier import EncoderClassifier, windows
from sentikit.errors import InputError

if TYPE_CHECKING:
    from sentikit.processes.group import ProcessGroup


class SharedClassifier(EncoderClassifier):
    """A classifier of which every process of a group has a copy.

    All processes are given the same texts and read them in step: of each window a process labels
    every n-th text, then the results are gathered. Memory stays flat.
    """

    def __init__(self, own: EncoderClassifier, group: ProcessGroup) -> None:
        super().__init__(own.predictor, own.tokenizer, own.scheme, own.max_length, own.temperature)
        self.calibrated = own.calibrated
        self._own, self._group = own, group

    def logits(self, texts: Iterable[str | Example]) -> Iterator[NDArray[np.float32]]:
        """Yield the logits of successive windows of texts, (texts, classes)."""
        for window in windows(texts, self._group.processes):
            yield self._shared(window)

    def _shared(self, window: Sequence[str]) -> NDArray[np.float32]:
        """Return the logits of a window, of which this process computes its part.

        Raises:
            InputError: another process has other texts.
        """
        rank, processes = self._group.rank, self._group.processes
        found = np.empty((len(window), len(self.labels)), np.float32)
        pieces = self._group.gather(self._own.logits_of_texts(window[rank::processes]))
        for other, piece in enumerate(pieces):
            if piece.shape != found[other::processes].shape:
                raise InputError(
                    f"Process {other} reads other texts than process {rank}. Give every machine "
                    "the same file."
                )
            found[other::processes] = piece
        return found
