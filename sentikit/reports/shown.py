"""What charts of a comparison show, whoever draws them: figures picked from findings."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sentikit.comparison.results import Comparison, Difference, Estimate, RunFindings
from sentikit.ensembles.judged import JudgedCascade
from sentikit.scoring import Calibration

#: With more runs, charts that take a panel each show the best ones alone.
MOST_PANELS = 12
#: With more differences a chart of them is no help.
MOST_DIFFERENCES = 24


@dataclass(frozen=True)
class Bar:
    """A value with its interval.

    Attributes:
        name: what it is of.
        value: where the mark stands.
        low: where the interval begins.
        high: where it ends.
        stands_out: drawn in the accent colour.
    """

    name: str
    value: float
    low: float
    high: float
    stands_out: bool = False


@dataclass(frozen=True)
class Priced:
    """A run with its cost.

    Attributes:
        name: of the run.
        cost: USD, not negative.
        value: macro-F1.
        on_front: whether no other is both cheaper and better.
    """

    name: str
    cost: float
    value: float
    on_front: bool


@dataclass(frozen=True)
class Mark:
    """A point to name on a cascade's curve: share of texts sent to the LLM, and macro-F1."""

    name: str
    share: float
    value: float


def by_score(comparison: Comparison) -> list[RunFindings]:
    """Return the runs, best macro-F1 first."""
    return sorted(comparison.runs, key=lambda run: -run.scores.macro_f1)


def score_bars(comparison: Comparison) -> list[Bar]:
    """Return the macro-F1 of all runs, best first; the advised one stands out."""
    advised = comparison.advice.run
    return [
        _bar(run.name, run.estimates.macro_f1, run.name == advised) for run in by_score(comparison)
    ]


def difference_bars(comparison: Comparison) -> list[Bar]:
    """Return the differences of macro-F1, none where they are too many to show.

    Those whose interval is clear of 0 stand out.
    """
    if len(comparison.differences) > MOST_DIFFERENCES:
        return []
    return [
        _bar(_pair(found, comparison.baseline), found.macro_f1, _is_clear(found))
        for found in comparison.differences
    ]


def source_bars(comparison: Comparison, source: str) -> list[Bar]:
    """Return the best runs' macro-F1 on one source, in the order of all texts' scores."""
    best = by_score(comparison)[:MOST_PANELS]
    return [
        _bar(run.name, run.estimates_by_source[source].macro_f1, run is best[0]) for run in best
    ]


def priced_runs(comparison: Comparison) -> list[Priced]:
    """Return the runs whose whole cost is known."""
    return [
        Priced(run.name, run.cost.total, run.scores.macro_f1, bool(run.on_front))
        for run in comparison.runs
        if run.cost.total is not None
    ]


def calibrated_runs(comparison: Comparison) -> dict[str, Calibration]:
    """Return run to calibration, for the best of the runs with probabilities."""
    known = {
        run.name: run.scores.calibration
        for run in by_score(comparison)
        if run.scores.calibration is not None
    }
    return dict(itertools.islice(known.items(), MOST_PANELS))


def curve_marks(cascade: JudgedCascade) -> list[Mark]:
    """Return what is worth naming on a cascade's curve: the threshold in use."""
    found = cascade.worth.macro_f1
    if found is None:
        return []
    name = f"{found.value:.4f} at threshold {shown_threshold(cascade.threshold)}"
    return [Mark(name, cascade.share, found.value)]


def shown_threshold(value: float) -> str:
    """Return a threshold as text; one that no probability reaches is above 1."""
    return "above 1" if value > 1 else f"{value:.3g}"


def short_name(name: str, most: int) -> str:
    """Cut a name in the middle: runs differ at both ends."""
    if len(name) <= most:
        return name
    return f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"


def shown_dollars(amount: float) -> str:
    """Return an amount of USD for an axis: short, and exact enough."""
    if amount == 0:
        return "$0"
    if amount >= 100:
        return f"${amount:,.0f}"
    return f"${amount:.2f}".removesuffix(".00") if amount >= 1 else f"${amount:.2g}"


def _bar(name: str, estimate: Estimate, stands_out: bool) -> Bar:
    bounds = estimate.percentile
    return Bar(name, estimate.value, bounds.low, bounds.high, stands_out)


def _pair(found: Difference, baseline: str | None) -> str:
    return found.second if found.first == baseline else f"{found.first} → {found.second}"


def _is_clear(found: Difference) -> bool:
    return found.macro_f1.percentile.low > 0 or found.macro_f1.percentile.high < 0
