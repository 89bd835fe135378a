"""What a cascade's threshold is chosen for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Goal = Literal["f1", "calls", "cost"]


@dataclass(frozen=True)
class Aim:
    """What a threshold is chosen for.

    Attributes:
        goal: the best macro-F1; or the best within a share of calls or a cost.
        target: ``calls``: the largest share of texts sent; ``cost``: USD for 1,000 texts.
    """

    goal: Goal = "f1"
    target: float | None = None


def aim_problem(goal: Goal, target: float | None) -> str | None:
    """Say in one sentence why a goal and a target do not go together; None where they do."""
    if goal == "f1":
        return None if target is None else "The goal f1 takes no target; calls and cost do."
    if target is None:
        wanted = "a share of texts, as 0.2" if goal == "calls" else "USD for 1,000 texts"
        return f"The goal {goal} needs a target: {wanted}."
    if not 0 < target < float("inf"):
        return f"The target must be above 0, not {target:g}."
    if goal == "calls" and target > 1:
        return f"A share of calls is at most 1, as 0.2, not {target:g}."
    return None
