"""Scores and differences as cells of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentikit.comparison.results import Estimate


def scored(found: Estimate) -> tuple[str, str]:
    """Return a score and its interval as cells of a table."""
    return f"{found.value:.4f}", f"[{found.percentile.low:.4f}, {found.percentile.high:.4f}]"


def gained(found: Estimate) -> str:
    """Return a difference with its interval, with signs."""
    # Adding 0 turns -0.0 into 0.0.
    value, low, high = (
        f"{round(number, 4) + 0.0:+.4f}"
        for number in (found.value, found.percentile.low, found.percentile.high)
    )
    return f"{value} [{low}, {high}]"
