"""Where a cascade's threshold comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.bootstrap import Resampling
from sentikit.ensembles.aim import Aim
from sentikit.ensembles.cascade import Routed, choose, confidence, cross_fit
from sentikit.ensembles.members import Team
from sentikit.errors import InputError


@dataclass(frozen=True)
class CascadeChoice:
    """What a user decides about a cascade.

    Attributes:
        threshold: given, or None to choose it.
        tune: the same two classifiers' runs on other texts, to choose it on.
        aim: what to choose it for.
        llm_cost: USD for 1,000 texts, where the run does not know its costs.
        resampling: of the intervals.
    """

    threshold: float | None = None
    tune: Team | None = None
    aim: Aim = field(default_factory=Aim)
    llm_cost: float | None = None
    resampling: Resampling = field(default_factory=Resampling)


def routed(team: Team, llm_cost: float | None = None) -> Routed:
    """Return what a cascade of a team's first two runs is made of, all rows.

    Args:
        team: the encoder's run and the LLM's.
        llm_cost: USD for 1,000 texts; without it, what the LLM's run recorded.
    """
    encoder, llm = team.members[:2]
    cost = llm.cost
    if llm_cost is not None:
        cost = np.full(len(team), llm_cost / 1000)
    elif cost is not None:
        # A row whose price is unknown is taken to cost what the others do on average.
        known = ~np.isnan(cost)
        cost = np.where(known, cost, cost[known].mean()) if known.any() else None
    return Routed(
        team.gold,
        encoder.answers.labels,
        confidence(encoder.answers, encoder.name),
        llm.answers.labels,
        len(team.classes),
        cost,
    )


def thresholds(
    team: Team, scored: Routed, choice: CascadeChoice
) -> tuple[float, NDArray[np.float64], str]:
    """Return the threshold to use, that of each row with a gold label, and a sentence on both."""
    if choice.threshold is not None:
        everywhere = np.full(len(scored), choice.threshold)
        return choice.threshold, everywhere, "The threshold was given."
    if choice.tune is not None:
        return _tuned(choice.tune, scored, choice)
    if not len(scored):
        raise InputError(
            "No text has a gold label, so no threshold can be chosen. Name one with --threshold, "
            "or choose it on other runs with --tune ENCODER_RUN LLM_RUN."
        )
    examples = team.examples.select(team.scored)
    keys = examples.texts if any(examples.texts) else examples.ids
    _, thresholds = cross_fit(scored, keys, choice.aim)
    threshold = choose(scored, choice.aim).threshold
    low, high = float(thresholds.min()), float(thresholds.max())
    return (
        threshold,
        thresholds,
        f"Cross-fitted, as there is one split alone: every fifth of the texts is answered at the "
        f"threshold chosen for {_aimed(choice.aim)} on the other four ({low:.3f} to {high:.3f}). "
        f"On all texts it would be {threshold:.3f}.",
    )


def _tuned(
    tune: Team, scored: Routed, choice: CascadeChoice
) -> tuple[float, NDArray[np.float64], str]:
    found = routed(tune, choice.llm_cost).select(tune.scored)
    if not len(found):
        raise InputError(
            f"{tune.members[0].name} and {tune.members[1].name} have no gold labels; a threshold "
            "is chosen against them. Name runs on a labelled split."
        )
    point = choose(found, choice.aim)
    return (
        point.threshold,
        np.full(len(scored), point.threshold),
        f"Chosen for {_aimed(choice.aim)} on the {len(found):,} texts of the runs to tune on, "
        f"where it sends {point.share:.1%} to the LLM and macro-F1 is {point.macro_f1:.4f}.",
    )


def _aimed(aim: Aim) -> str:
    if aim.goal == "calls":
        return f"the best macro-F1 within {aim.target:.1%} of the calls"
    if aim.goal == "cost":
        return f"the best macro-F1 within ${aim.target:g} for 1,000 texts"
    return "the best macro-F1"
