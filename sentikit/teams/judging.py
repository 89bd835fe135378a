"""What a cascade or a vote of recorded runs is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sentikit.errors import InputError
from sentikit.scoring import Scores, score, score_by_source
from sentikit.teams.cascade import (
    Aim,
    CurvePoint,
    Operation,
    Routed,
    choose,
    confidence,
    cross_fit,
    curve,
)
from sentikit.teams.members import Team, short_names
from sentikit.teams.resampling import RESAMPLES, Interval, score_intervals
from sentikit.teams.vote import Ties, vote

How = Literal["given", "tuned", "cross-fitted"]


@dataclass(frozen=True)
class Worth:
    """What a team's answers are worth, beside its members'; None and empty without gold labels.

    Attributes:
        scores: of the team.
        by_source: the same for each source.
        macro_f1: of the team, with its interval.
        members: each member's macro-F1, by name.
        gains: how much the team is above each member, by name; on the same resamples.
    """

    scores: Scores | None = None
    by_source: Mapping[str, Scores] = field(default_factory=dict)
    macro_f1: Interval | None = None
    members: Mapping[str, Interval] = field(default_factory=dict)
    gains: Mapping[str, Interval] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "overall": None if self.scores is None else self.scores.to_json(),
            "by_source": {name: scores.to_json() for name, scores in self.by_source.items()},
            "macro_f1": None if self.macro_f1 is None else dataclasses.asdict(self.macro_f1),
            "members": {name: dataclasses.asdict(found) for name, found in self.members.items()},
            "gains": {name: dataclasses.asdict(found) for name, found in self.gains.items()},
        }


@dataclass(frozen=True)
class JudgedCascade:
    """A cascade of two recorded runs.

    Attributes:
        encoder: the encoder's run.
        llm: the LLM's run.
        threshold: the top probability from which on the encoder answers.
        how: whether the threshold was given, tuned on other runs, or cross-fitted on these.
        aim: what it was chosen for.
        explanation: one sentence on where the threshold comes from.
        rows: how many texts there are.
        calls: how many of them the LLM answers.
        cost: USD of the LLM for 1,000 texts; None where unknown.
        llm_cost: the same if the LLM answered all.
        worth: against the gold labels.
        curve: at other thresholds, judged on these same texts; empty without gold labels.
        best: the best point of all, in hindsight; None without gold labels.
        notes: what a reader must know.
        labels: class numbers answered, (rows,).
        asked: whether the LLM answered, (rows,).
    """

    encoder: str
    llm: str
    threshold: float
    how: How
    aim: Aim
    explanation: str
    rows: int
    calls: int
    cost: float | None
    llm_cost: float | None
    worth: Worth
    curve: tuple[CurvePoint, ...]
    best: Operation | None
    notes: tuple[str, ...]
    labels: NDArray[np.int64]
    asked: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Share of texts the LLM answers."""
        return self.calls / self.rows

    def to_json(self) -> dict[str, Any]:
        """Return plain values; scores and shares are fractions, costs USD for 1,000 texts."""
        return {
            "encoder": self.encoder,
            "llm": self.llm,
            "threshold": self.threshold,
            "how": self.how,
            "aim": dataclasses.asdict(self.aim),
            "explanation": self.explanation,
            "rows": self.rows,
            "calls": self.calls,
            "share_of_calls": self.share,
            "cost_per_1000": self.cost,
            "llm_cost_per_1000": self.llm_cost,
            **self.worth.to_json(),
            "best_in_hindsight": None if self.best is None else dataclasses.asdict(self.best),
            "curve": [dataclasses.asdict(point) for point in self.curve],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class CascadeChoice:
    """What a user decides about a cascade.

    Attributes:
        threshold: given, or None to choose it.
        tune: the same two classifiers' runs on other texts, to choose it on.
        aim: what to choose it for.
        llm_cost: USD for 1,000 texts, where the run does not know its costs.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    threshold: float | None = None
    tune: Team | None = None
    aim: Aim = field(default_factory=Aim)
    llm_cost: float | None = None
    resamples: int = RESAMPLES
    seed: int = 0


def judge_cascade(team: Team, choice: CascadeChoice) -> JudgedCascade:
    """Put the second run behind the first.

    Args:
        team: the encoder's run and the LLM's.
        choice: where the threshold comes from.

    Raises:
        InputError: the encoder has no probabilities, there is nothing to choose a threshold on,
            or none meets the aim.
    """
    rows = routed(team, choice.llm_cost)
    scored = rows.select(team.scored)
    threshold, thresholds, explanation = _thresholds(team, scored, choice)
    cut = np.full(len(team), threshold)
    cut[team.scored] = thresholds
    asked = rows.confidence < cut
    labels = np.where(asked, rows.llm, rows.encoder)
    names = short_names(team.members)
    known = len(scored) > 0
    return JudgedCascade(
        encoder=team.members[0].name,
        llm=team.members[1].name,
        threshold=threshold,
        how="given" if choice.threshold is not None else "tuned" if choice.tune else "cross-fitted",
        aim=choice.aim,
        explanation=explanation,
        rows=len(team),
        calls=int(asked.sum()),
        cost=_per_thousand(rows.cost, asked),
        llm_cost=_per_thousand(rows.cost, np.ones(len(team), bool)),
        worth=_worth(team, labels, [rows.encoder, rows.llm], names, choice),
        curve=tuple(curve(scored, choice.resamples, choice.seed)) if known else (),
        best=choose(scored, Aim()) if known else None,
        notes=tuple(_notes(team, choice, rows)),
        labels=labels,
        asked=asked,
    )


def judge_answers(
    team: Team,
    asked: NDArray[np.bool_],
    choice: CascadeChoice,
    explanation: str,
    tuned: bool = False,
) -> JudgedCascade:
    """Judge a cascade whose LLM answered nothing but the texts sent to it.

    There is no curve, and nothing to say of the LLM alone.

    Args:
        team: the encoder's run, and the LLM's with the rows that it was not asked unanswered.
        asked: whether the LLM was, (rows,).
        choice: the threshold in use, and what it was chosen for.
        explanation: one sentence on where it comes from.
        tuned: whether it was chosen, not given.
    """
    assert choice.threshold is not None
    encoder, llm = team.members
    labels = np.where(asked, llm.answers.labels, encoder.answers.labels)
    spent = None if llm.cost is None else np.nan_to_num(llm.cost)
    return JudgedCascade(
        encoder=encoder.name,
        llm=llm.name,
        threshold=choice.threshold,
        how="tuned" if tuned else "given",
        aim=choice.aim,
        explanation=explanation,
        rows=len(team),
        calls=int(asked.sum()),
        cost=_per_thousand(spent, asked),
        llm_cost=None,
        worth=_worth(team, labels, [encoder.answers.labels], [encoder.name], choice),
        curve=(),
        best=None,
        notes=(),
        labels=labels,
        asked=asked,
    )


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


def _thresholds(
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
        f"Chosen for {_aimed(choice.aim)} on {len(found):,} other texts, where it sends "
        f"{point.share:.1%} to the LLM and macro-F1 is {point.macro_f1:.4f}.",
    )


def _aimed(aim: Aim) -> str:
    if aim.goal == "calls":
        return f"the best macro-F1 within {aim.target:.1%} of the calls"
    if aim.goal == "cost":
        return f"the best macro-F1 within ${aim.target:g} for 1,000 texts"
    return "the best macro-F1"


def _worth(
    team: Team,
    labels: NDArray[np.int64],
    members: list[NDArray[np.int64]],
    names: Sequence[str],
    choice: CascadeChoice,
) -> Worth:
    scored = team.scored
    if not len(scored):
        return Worth()
    labellings = [found[scored] for found in (labels, *members)]
    (own, *singles), gains = score_intervals(
        team.gold[scored], labellings, len(team.classes), choice.resamples, choice.seed
    )
    sources = team.examples.select(scored).sources
    return Worth(
        score(team.gold[scored], labels[scored], team.classes),
        score_by_source(team.gold[scored], labels[scored], sources, team.classes),
        own,
        dict(zip(names, singles, strict=True)),
        dict(zip(names, gains, strict=True)),
    )


def _notes(team: Team, choice: CascadeChoice, rows: Routed) -> list[str]:
    notes = []
    if choice.tune is not None:
        shared = len(set(choice.tune.examples.texts) & set(team.examples.texts) - {""})
        if shared:
            notes.append(
                f"{shared:,} texts that the threshold was chosen on are among those it is judged "
                "on: its score is too good to be true for new texts."
            )
    unsure = int((rows.confidence < 0).sum())
    if unsure:
        notes.append(
            f"The encoder has no label or no probabilities for {unsure:,} texts; they go to the "
            "LLM at any threshold."
        )
    unlabelled = len(team) - len(team.scored)
    if unlabelled:
        notes.append(f"{unlabelled:,} texts have no gold label and are not scored.")
    return notes


def _per_thousand(cost: NDArray[np.float64] | None, asked: NDArray[np.bool_]) -> float | None:
    return None if cost is None else float(cost[asked].sum() / len(asked) * 1000)


@dataclass(frozen=True)
class JudgedVote:
    """A vote of recorded runs.

    Attributes:
        members: the runs, most trusted first.
        ties: how ties are broken.
        rows: how many texts there are.
        unanimous: texts on which all agree.
        tied: texts on which several labels have the most votes.
        cost: USD of all members for 1,000 texts; None where unknown.
        worth: against the gold labels.
        labels: class numbers answered, (rows,).
    """

    members: tuple[str, ...]
    ties: Ties
    rows: int
    unanimous: int
    tied: int
    cost: float | None
    worth: Worth
    labels: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; scores are fractions, costs USD for 1,000 texts."""
        return {
            "voters": list(self.members),
            "ties": self.ties,
            "rows": self.rows,
            "unanimous": self.unanimous,
            "tied": self.tied,
            "cost_per_1000": self.cost,
            **self.worth.to_json(),
        }


def judge_vote(
    team: Team, ties: Ties = "first", resamples: int = RESAMPLES, seed: int = 0
) -> JudgedVote:
    """Let recorded runs vote.

    Raises:
        InputError: fewer than two runs.
    """
    if len(team.members) < 2:
        raise InputError("A vote needs two runs at least, and three to be of use.")
    held = vote([member.answers for member in team.members], len(team.classes), ties)
    labels = [member.answers.labels for member in team.members]
    choice = CascadeChoice(resamples=resamples, seed=seed)
    costs = [member.cost for member in team.members if member.cost is not None]
    everyone = np.ones(len(team), bool)
    spent = [_per_thousand(np.nan_to_num(cost), everyone) or 0.0 for cost in costs]
    return JudgedVote(
        members=tuple(member.name for member in team.members),
        ties=ties,
        rows=len(team),
        unanimous=int(held.unanimous.sum()),
        tied=int(held.tied.sum()),
        cost=sum(spent) if spent else None,
        worth=_worth(team, held.labels, labels, short_names(team.members), choice),
        labels=held.labels,
    )
