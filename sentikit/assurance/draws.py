"""Which texts of a pile to check: drawn uniformly, by group, or stratified by confidence."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentikit.errors import InputError

#: Strata of confidence, and the guessed error rates of the least and the most sure. Chosen on the
#: study's validation predictions: mean width of accuracy's interval over three labellings.
STRATA = 8
_GUESSED_ERRORS = (0.45, 0.02)
#: In each stratum, so that its variance can be told.
_LEAST = 2

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """Rows to check.

    Attributes:
        rows: row numbers, in the order in which to check them, which is random.
        inclusion: the probability with which each was drawn.
        design: uniform, stratified or by group.
    """

    rows: Integers
    inclusion: Floats
    design: str


def uniform_draw(rows: int, size: int, seed: int) -> Draw:
    """Draw `size` of `rows` uniformly without replacement, as a certificate needs."""
    _check_size(rows, size)
    drawn = np.random.default_rng(seed).permutation(rows)[:size]
    return Draw(drawn.astype(np.int64), np.full(size, size / rows), "uniform")


def stratified_draw(confidence: ArrayLike, size: int, seed: int) -> Draw:
    """Draw rows by strata of confidence, for the narrowest interval of accuracy.

    Stratum h gets n_h ∝ W_h·√(p_h(1 − p_h)) of the checks (Neyman 1934), with guessed error rates
    p_h that fall geometrically from .45 for the least sure eighth to .02 for the most sure. A
    certificate is refused on such a draw, since it needs a uniform one.
    """
    values = np.asarray(confidence, np.float64)
    _check_size(len(values), size)
    strata = confidence_strata(values)
    numbers = np.unique(strata)
    sizes = np.bincount(strata, minlength=STRATA)[numbers].astype(np.int64)
    high, low = _GUESSED_ERRORS
    guessed = high * (low / high) ** (numbers / max(1, STRATA - 1))
    weights = sizes.astype(np.float64) * np.sqrt(guessed * (1 - guessed))
    return _by_strata(strata, _allocation(weights, sizes, size), seed, "stratified")


def group_draw(groups: Sequence[Hashable], size: int, seed: int) -> Draw:
    """Draw rows so that each group gets the same number of checks, or all it has."""
    _check_size(len(groups), size)
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    strata = np.fromiter((codes[group] for group in groups), np.int64, len(groups))
    sizes = np.bincount(strata).astype(np.int64)
    return _by_strata(strata, _allocation(np.ones(len(sizes)), sizes, size), seed, "by group")


def confidence_strata(confidence: Floats, strata: int = STRATA) -> Integers:
    """Return the stratum of each row: equal parts of the pile by confidence, least sure first."""
    ranks = np.empty(len(confidence), np.int64)
    order = np.argsort(np.where(np.isnan(confidence), -np.inf, confidence), kind="stable")
    ranks[order] = np.arange(len(confidence))
    return ranks * strata // max(1, len(confidence))


def _by_strata(strata: Integers, wanted: Integers, seed: int, design: str) -> Draw:
    random = np.random.default_rng(seed)
    rows, inclusion = [], []
    for number, count in zip(np.unique(strata), wanted, strict=True):
        members = np.flatnonzero(strata == number)
        rows.append(random.choice(members, count, replace=False))
        inclusion.append(np.full(count, count / max(1, len(members))))
    order = random.permutation(int(wanted.sum()))
    return Draw(np.concatenate(rows)[order], np.concatenate(inclusion)[order], design)


def _allocation(weights: Floats, sizes: Integers, total: int) -> Integers:
    """Share `total` checks out in proportion to weights, at least two and at most all of each."""
    counts = np.minimum(sizes, _LEAST if total >= _LEAST * len(sizes) else 0).astype(np.int64)
    while (left := total - int(counts.sum())) > 0:
        wanted = np.where(counts < sizes, weights, 0.0)
        ideal = wanted / wanted.sum() * total
        missing = np.where(counts < sizes, ideal - counts, -np.inf)
        step = np.clip(np.floor(missing), 0, sizes - counts).astype(np.int64)
        if 0 < step.sum() <= left:
            counts += step
        else:
            counts[int(np.argmax(missing))] += 1
    return counts


def _check_size(rows: int, size: int) -> None:
    if not 0 < size <= rows:
        raise InputError(f"{size} texts cannot be drawn of {rows}; choose 1 to {rows}.")
