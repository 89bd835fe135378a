"""What a user decides about a labelling job, read before anything that asks LLMs is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentikit.llm.settings import FailureLimit


def _never() -> bool:
    """Nobody asks to stop."""
    return False


@dataclass(frozen=True)
class LabellingOptions:
    """What a user decides at the command line and not in the recipe.

    Attributes:
        max_cost: USD for all that is asked, or None.
        failure_limit: how many failing rows end the job, or None.
        batch: send requests through the provider's batch service.
        resume: resume an unfinished job, or ask again about the failed rows of a finished one.
        stop_requested: checked several times a second.
        limit: label so many examples of a split at most, or None.
    """

    max_cost: float | None = None
    failure_limit: FailureLimit | None = None
    batch: bool = False
    resume: bool = False
    stop_requested: Callable[[], bool] = _never
    limit: int | None = None
