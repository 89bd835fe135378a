"""Certificates: the share of a pile whose labels have at most a given error rate.

Both certificates test a sequence of confidence thresholds, most confident first, that is fixed
before any check is known, and stop at the first threshold that fails (fixed-sequence testing;
Angelopoulos et al., "Learn then Test", arXiv 2110.01052). The first threshold that breaks the
promise passes with probability at most δ = 1 − level, so the number of thresholds needs no
correction.

The test of one threshold is exact for a finite pile. Of N rows, M lie at or above the threshold and
K of these are wrong; n rows are drawn uniformly without replacement, n_c of them lie at or above
the threshold and k_c of these are wrong. Then n_c ~ Hypergeometric(N, M, n), and given n_c,
k_c ~ Hypergeometric(M, K, n_c). The p-value of "K ≥ K₀" given n_c is P(k ≤ k_c | M, K₀, n_c).
Comparing it with δ would be conservative, because k_c is discrete. It is compared with κ ≥ δ
instead, the largest value for which P(p ≤ κ), over both n_c and k_c, is at most δ (Boschloo 1970).
This is exact and uniformly more powerful. It requires a uniform draw.

The sequence starts at the share 1.1·√α and rises by .01. Both were chosen by simulated power on the
study's validation predictions, for α from .02 to .2 and 100 to 1,200 checks; in most of these
settings the mean share is within .02 of the best start's. A start at very few rows fails because
a few checks prove nothing; a late start fails where a smaller share would have passed.

A `Monitor` tests a certified error rate on later checks.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentikit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

#: Distance between two tested shares of the pile.
STEP = 0.01
_AGREEMENT_STEP = 0.0025
#: The share of δ spent on counting the sampled texts, whose label is known, as agreeing.
_SAMPLE_PART = 0.05
#: Standard deviations beyond which a number of accepted checks is ignored; see _critical.
_TAIL = 7.0
#: Above this many rows, draws count as with replacement, which is faster and more conservative.
_LARGE = 50_000
_ROUNDING = 1e-9

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Certificate:
    """The certificate of a pile.

    Attributes:
        target: the promised accuracy or agreement.
        level: the probability that the promise holds, 1 − δ.
        share: certified share of all rows; for an agreement, the share that keeps the cheap label,
            without the sample. 0.0 if nothing is certified.
        threshold: rows at or above this confidence are accepted; infinite if none is.
        error_bound: upper bound, at `level`, on the share of wrong labels among the accepted; for
            an agreement, on the kept rows that differ, as a share of all rows. 1.0 if nothing is
            certified.
        rows: number of rows of the pile.
        accepted: rows at or above the threshold.
        checked: texts that were drawn and checked.
        checked_accepted: checked texts at or above the threshold.
        wrong: texts of `checked_accepted` whose label is wrong, or differs.
        looks: number of looks at the checked texts that share δ.
        start: share at which the tested sequence starts.
    """

    target: float
    level: float
    share: float = 0.0
    threshold: float = math.inf
    error_bound: float = 1.0
    rows: int = 0
    accepted: int = 0
    checked: int = 0
    checked_accepted: int = 0
    wrong: int = 0
    looks: int = 1
    start: float = 0.0

    @property
    def method(self) -> str:
        """The test, in words."""
        return (
            f"fixed-sequence testing from share {self.start:.3f} in steps of {STEP:g}; "
            "exact unconditional hypergeometric test"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas table with one row."""
        import pandas as pd

        return pd.DataFrame([asdict(self)])

    def _repr_html_(self) -> str:
        return (
            f"<p>{self.share:.1%} of {self.rows:,} rows certified at {self.target:.1%}, with "
            f"probability {self.level:g}</p>{self.to_frame().to_html(index=False, border=0)}"
        )


def certify(
    pile_confidence: ArrayLike,
    checked_confidence: ArrayLike,
    checked_correct: ArrayLike,
    *,
    accuracy: float,
    level: float = 0.9,
    looks: int = 1,
    start: float | None = None,
) -> Certificate:
    """Certify the largest share of a pile whose labels have the given accuracy.

    With probability `level` over the draw of the checked texts, at most 1 − `accuracy` of the rows
    with a confidence of at least `threshold` have a wrong label. The module describes the method.

    Args:
        pile_confidence: confidence of every row of the pile, checked ones included; NaN for a row
            without a label, which is never accepted. Only their order matters.
        checked_confidence: confidence of the checked rows, drawn uniformly without replacement.
        checked_correct: whether each checked label is right; "not sure" counts as wrong.
        accuracy: promised accuracy of the accepted labels.
        level: probability that the promise holds.
        looks: number of looks at these checked texts, this one included, declared beforehand; each
            gets an equal share of 1 − level.
        start: share at which the tested sequence starts, fixed beforehand; default 1.1·√α.

    Raises:
        InputError: a rate is out of range, or the arrays differ in length.
    """
    check_rate("accuracy", accuracy)
    check_rate("level", level)
    if looks < 1:
        raise InputError(f"looks must be at least 1, because it counts this look; it is {looks}.")
    pile, drawn, correct = _aligned(pile_confidence, checked_confidence, checked_correct)
    first = default_start(1 - accuracy) if start is None else start
    if not 0 < first <= 1:
        raise InputError(f"start must be a share of the pile, from 0 to 1, not {first:g}.")
    thresholds, accepted = tested_thresholds(pile, first, STEP)
    limits = np.floor((1 - accuracy) * accepted + _ROUNDING).astype(np.int64) + 1
    found = Certificate(
        accuracy, level, rows=len(pile), checked=len(drawn), looks=looks, start=first
    )
    return _tested(found, thresholds, accepted, limits, drawn, ~correct, (1 - level) / looks)


def certify_agreement(
    pile_confidence: ArrayLike,
    sample_confidence: ArrayLike,
    sample_agrees: ArrayLike,
    *,
    agreement: float,
    level: float = 0.9,
) -> Certificate:
    """Certify which labels of a cheap classifier may replace an LLM's.

    Rows at or above `threshold` keep the cheap label; all others, and the sampled rows, have the
    LLM's. With probability `level`, at least `agreement` of all rows then have the label that the
    LLM alone would give. The loss, kept rows that differ as a share of all rows, does not decrease
    as the threshold falls: a risk-controlling prediction set (arXiv 2101.02703) with the exact test
    of this module.

    Sampled rows have the LLM's label, so those that differ are no loss. Let T be the number of rows
    that may differ and X_j the number of sampled rows among the first T + j + 1, by confidence,
    that differ. The promise can be broken with j sampled rows that differ only if X_j ≤ j. Let A be
    the probability that this happens for some j below j₀; the thresholds are tested against
    T + j₀ + 1 rows at the level δ − A.

    Args:
        pile_confidence: the cheap classifier's confidence of every row, sampled ones included.
        sample_confidence: its confidence of the rows the LLM labelled, drawn uniformly without
            replacement.
        sample_agrees: whether the two labels of each sampled row agree.
        agreement: promised agreement of the whole pile with the LLM.
        level: probability that the promise holds.

    Raises:
        InputError: a rate is out of range, or the arrays differ in length.
    """
    check_rate("agreement", agreement)
    check_rate("level", level)
    pile, drawn, agrees = _aligned(pile_confidence, sample_confidence, sample_agrees)
    rows, n, risk = len(pile), len(drawn), 1 - level
    allowed = math.floor((1 - agreement) * rows + _ROUNDING)
    known, spent = _known_labels(rows, n, allowed, _SAMPLE_PART * risk)
    first = default_start(1 - agreement)
    thresholds, accepted = tested_thresholds(pile, first, _AGREEMENT_STEP)
    limits = np.full(len(accepted), allowed + known + 1)
    found = Certificate(agreement, level, rows=rows, checked=n, start=first)
    found = _tested(found, thresholds, accepted, limits, drawn, ~agrees, risk - spent)
    kept = found.accepted - found.checked_accepted
    if not kept:
        return found
    bound = min(allowed, max(0, round(found.error_bound * found.accepted) - found.wrong)) / rows
    return replace(found, share=kept / rows, error_bound=bound)


def default_start(limit: float) -> float:
    """Return the share of the pile at which the tested sequence starts, for an error limit α."""
    return min(0.9, 1.1 * math.sqrt(limit))


def tested_thresholds(pile: Floats, start: float, step: float) -> tuple[Floats, Integers]:
    """Return descending thresholds, and the number of rows of the pile that each accepts.

    They are quantiles of the pile's confidences; equal confidences are accepted together. If the
    first quantile lies within a block of equal ones, such as an LLM's answers in a cascade, the
    rows above the block are tested first, unless they are fewer than half of the first quantile.
    """
    ordered = -pile  # the most confident first
    ordered.sort()
    ordered = ordered[: np.searchsorted(ordered, np.inf)]
    if not len(ordered):
        return np.empty(0), np.empty(0, np.int64)
    shares = np.minimum(1.0, start + step * np.arange(math.ceil((1 - start) / step) + 1))
    places = np.ceil(shares * len(pile) - _ROUNDING).astype(np.int64)
    tested = np.unique(ordered[np.clip(places, 1, len(ordered)) - 1])
    above = int(np.searchsorted(ordered, tested[0], side="left"))
    inside = np.searchsorted(ordered, tested[0], side="right") > places[0] + step * len(pile)
    if inside and 2 * above >= places[0]:
        tested = np.concatenate([ordered[above - 1 : above], tested])
    accepted = np.searchsorted(ordered, tested, side="right")
    return -tested, accepted.astype(np.int64)


def upper_bound(wrong: int, checked: int, rows: int, risk: float) -> float:
    """Return the exact upper confidence bound on a share of `rows`, from `wrong` of `checked`.

    It is the largest K/rows with P(Hypergeometric(rows, K, checked) ≤ wrong) > risk, and tends to
    Clopper and Pearson's bound as `rows` grows.
    """
    from scipy.stats import hypergeom

    low, high = wrong, rows - (checked - wrong)  # K is at least, at most
    while low < high:
        middle = (low + high + 1) // 2
        if hypergeom.cdf(wrong, rows, middle, checked) > risk:
            low = middle
        else:
            high = middle - 1
    return low / rows if rows else 1.0


def lower_bound(wrong: int, checked: int, rows: int, risk: float) -> float:
    """Return the exact lower confidence bound on a share of `rows`, from `wrong` of `checked`."""
    return 1 - upper_bound(checked - wrong, checked, rows, risk)


@lru_cache(maxsize=4096)
def _critical(
    rows: int, accepted: int, limit: int, drawn: int, risk: float
) -> tuple[Integers, float]:
    """Return the exact test of "at least `limit` of the accepted rows are wrong" at level `risk`.

    The test passes if k_c ≤ counts[n_c]; returns the counts, and κ of the module.

    Numbers of accepted checks beyond `_TAIL` standard deviations never pass: their probability is
    far below any level in use, and ignoring them is conservative.
    """
    from scipy.stats import binom

    counts = np.full(drawn + 1, -1, np.int64)
    if limit > accepted:
        return np.arange(drawn + 1), 1.0
    mean = drawn * accepted / rows
    spread = _TAIL * math.sqrt(mean * max(0.0, 1 - accepted / rows)) + 1
    least = max(0, drawn - (rows - accepted), math.floor(mean - spread))
    most = min(drawn, accepted, math.ceil(mean + spread))
    sizes = np.arange(least, most + 1)
    highest = min(most, math.ceil(most * limit / accepted) + 1)
    numbers = np.arange(highest + 1)[None, :]
    if accepted > _LARGE:
        each = binom.pmf(numbers, sizes[:, None], limit / accepted)
    else:
        each = _hypergeometric(numbers, accepted, limit, sizes[:, None])
    below = np.cumsum(each, axis=1)
    chances = each * _hypergeometric(sizes, rows, accepted, np.array(drawn))[:, None]
    order = np.argsort(below, axis=None, kind="stable")
    values = below.ravel()[order]
    reached = np.cumsum(chances.ravel()[order])
    last = int(np.searchsorted(reached, risk * (1 - _ROUNDING), side="right")) - 1
    while 0 <= last < len(values) - 1 and values[last + 1] <= values[last]:
        last -= 1  # equal p-values pass together or not at all
    level = float(values[last]) if last >= 0 else -1.0
    counts[sizes] = (below <= level).sum(axis=1) - 1
    return counts, max(level, 0.0)


def _hypergeometric(numbers: Integers, rows: int, wrong: int, drawn: Integers) -> Floats:
    """Return P(`numbers` of `drawn` rows are wrong), much faster than scipy."""
    from scipy.special import gammaln

    left = rows - wrong
    most = np.minimum(wrong, drawn)
    possible = (numbers <= most) & (drawn - numbers <= left)
    k = np.where(possible, numbers, np.maximum(0, drawn - left))

    def choices(of: int, some: Integers) -> Floats:
        chosen = gammaln(of + 1.0) - gammaln(some + 1.0) - gammaln(of - some + 1.0)
        return np.asarray(chosen, np.float64)

    logs = choices(wrong, k) + choices(left, drawn - k) - choices(rows, drawn)
    return np.where(possible, np.exp(logs), 0.0)


def _tested(
    nothing: Certificate,
    thresholds: Floats,
    accepted: Integers,
    limits: Integers,
    drawn: Floats,
    wrong: Bools,
    risk: float,
) -> Certificate:
    """Return the certificate of the last threshold passed before the first failure."""
    order = np.argsort(-drawn, kind="stable")
    errors = np.concatenate([[0], np.cumsum(wrong[order])])
    inside = np.searchsorted(-drawn[order], -thresholds, side="right")
    passed, attained = -1, 0.0
    for place, (count, limit) in enumerate(zip(accepted, limits, strict=True)):
        counts, level = _critical(nothing.rows, int(count), int(limit), len(drawn), risk)
        if errors[inside[place]] > counts[inside[place]]:
            break
        passed, attained = place, level
    if passed < 0:
        return nothing
    rows, checked = int(accepted[passed]), int(inside[passed])
    return replace(
        nothing,
        share=rows / nothing.rows,
        threshold=float(thresholds[passed]),
        error_bound=upper_bound(int(errors[checked]), checked, rows, max(risk, attained)),
        accepted=rows,
        checked_accepted=checked,
        wrong=int(errors[checked]),
    )


def _known_labels(rows: int, drawn: int, allowed: int, risk: float) -> tuple[int, float]:
    """Return j₀ of `certify_agreement`, the largest with A ≤ risk, and A."""
    from scipy.stats import hypergeom

    if allowed + 1 >= rows:
        return 0, 0.0
    numbers = np.arange(drawn + 1)
    chances = hypergeom.pmf(numbers, rows, min(allowed + 1, rows), drawn)
    spent, j = 0.0, 0
    while allowed + j + 1 < rows and j <= drawn:
        crossed = float(chances[: j + 1].sum())
        if spent + crossed > risk:
            break
        spent += crossed
        chances[: j + 1] = 0.0
        sampled = (drawn - numbers) / (rows - allowed - j - 1)  # the next differing row's chance
        moved = chances * sampled
        chances = chances - moved
        chances[1:] += moved[:-1]
        j += 1
    return j, spent


def _aligned(pile: ArrayLike, drawn: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats, Bools]:
    confidences = _confidences("pile", pile)
    checked = _confidences("checked", drawn)
    right = np.asarray(correct, bool)
    if checked.shape != right.shape:
        raise InputError(f"There are {len(checked)} checked confidences and {right.size} answers.")
    if not 0 < len(checked) <= len(confidences):
        raise InputError(
            f"{len(checked)} texts are checked of a pile of {len(confidences)}. Check at least "
            "one, and include the checked texts in the pile."
        )
    return confidences, checked, right


def _confidences(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise InputError(f"{name} must have one confidence per row, not the shape {array.shape}.")
    return np.where(np.isnan(array), -np.inf, array)


def check_rate(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name} must be between 0 and 1, such as 0.9, not {value:g}.")


#: Error rates to bet on, as multiples of the certified one, with their shares of the capital. Most
#: of it is on moderate growth, which takes longest to detect.
BETS = ((1.25, 0.15), (1.5, 0.55), (2.0, 0.2), (3.0, 0.1))


class Monitor:
    """An e-process over checked accepted labels, valid at any stopping time.

    For each bet on an error rate q = r·α, with the share w of the capital,

        E_t = Σ w · Π_i (1 + λ(x_i − α)),   λ = (q − α)/(α(1 − α)),

    where x_i = 1 for a wrong label: the likelihood ratio of q against α. Under an error rate of at
    most α it is a non-negative supermartingale that starts at 1, so it reaches 1/δ with probability
    at most δ, ever (Ville 1939). The bets were fixed by simulation on the study's validation
    predictions.

    Attributes:
        error_rate: α, the certified error rate.
        level: 1 − δ; the probability of ever giving a false alarm is at most δ.
        checked: number of labels seen so far.
        wrong: number of wrong labels seen so far.
        alarm: whether E_t has ever reached 1/δ.
    """

    def __init__(self, error_rate: float, level: float = 0.95) -> None:
        check_rate("error_rate", error_rate)
        check_rate("level", level)
        self.error_rate = error_rate
        self.level = level
        self.checked = 0
        self.wrong = 0
        self.alarm = False
        self._rates = [min(r * error_rate, (1 + error_rate) / 2) for r, _ in BETS]
        self._logs = [math.log(part) for _, part in BETS]

    def update(self, correct: bool) -> bool:
        """Add one checked label, in the order of checking, and return whether there is an alarm."""
        self.checked += 1
        self.wrong += not correct
        alpha = self.error_rate
        for bet, rate in enumerate(self._rates):
            self._logs[bet] += math.log((1 - rate) / (1 - alpha) if correct else rate / alpha)
        if self.evidence * (1 - self.level) >= 1:
            self.alarm = True
        return self.alarm

    @property
    def evidence(self) -> float:
        """E_t, the evidence that the error rate is above the certified one; 1 at the start."""
        highest = max(self._logs)
        if highest > 700:
            return math.inf
        return math.exp(highest) * sum(math.exp(log - highest) for log in self._logs)
