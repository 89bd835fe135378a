"""Scores of many runs on the same resamples: rows are drawn once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.cells import Floats, Numbers, accuracy, macro_f1, tallies
from sentikit.comparison.resampling import Purpose, Resampling

#: Rows are drawn for so many resamples at a time, to stay in the processor's cache.
_DRAWN_AT_A_TIME = 2_000_000


@dataclass(frozen=True)
class JointSamples:
    """Scores of several runs on the same resamples, (runs, resamples)."""

    macro_f1: Floats
    accuracy: Floats


def joint_samples(
    gold: Numbers, labels: Sequence[Numbers], classes: int, resampling: Resampling
) -> JointSamples:
    """Draw rows once for all runs.

    Args:
        gold: class numbers, (rows,), in an order that hangs on the examples alone.
        labels: of each run, (rows,).
        classes: how many there are.
        resampling: how often.
    """
    codes, tallied = _patterns(gold, labels, classes)
    runs, n = len(labels), len(gold)
    f1, accuracies = (np.empty((runs, resampling.resamples)) for _ in range(2))
    for start, drawn in _drawn_patterns(codes, len(tallied), resampling):
        sums = (drawn @ tallied).reshape(len(drawn), runs, 2 * classes).astype(np.float64)
        end = start + len(drawn)
        f1[:, start:end] = macro_f1(sums).T
        accuracies[:, start:end] = accuracy(sums, n).T
    return JointSamples(f1, accuracies)


def _patterns(
    gold: Numbers, labels: Sequence[Numbers], classes: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Number the different rows; return each row's number, and each number's tallies."""
    rows = np.stack([gold, *labels], 1).astype(np.int8 if classes < 127 else np.int64)
    together = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    _, first, codes = np.unique(together.ravel(), return_index=True, return_inverse=True)
    blocks = [tallies(gold[first], answered[first], classes) for answered in labels]
    # Counts below 2^24 are exact in single precision.
    return codes.ravel().astype(np.int32), np.concatenate(blocks, 1).astype(np.float32)


def _drawn_patterns(
    codes: NDArray[np.int32], patterns: int, resampling: Resampling
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the number of the first resample and how often each has each pattern."""
    generator = resampling.generator(Purpose.ROWS)
    n = len(codes)
    for start, size in resampling.pieces(max(1, _DRAWN_AT_A_TIME // n)):
        drawn = codes[generator.integers(0, n, (size, n), dtype=np.int32)]
        drawn += (np.arange(size, dtype=np.int32) * patterns)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * patterns)
        yield start, counts.reshape(size, patterns).astype(np.float32)
