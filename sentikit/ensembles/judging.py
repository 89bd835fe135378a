"""Judges cascades and votes of recorded runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.alignment import display_names
from sentikit.comparison.bootstrap import Resampling, estimate_pair, estimate_run
from sentikit.comparison.counts import count_cells
from sentikit.ensembles.aim import Aim
from sentikit.ensembles.cascade import Routed, choose
from sentikit.ensembles.curve import curve
from sentikit.ensembles.judged import JudgedCascade, JudgedVote, Worth
from sentikit.ensembles.members import Team
from sentikit.ensembles.thresholds import CascadeChoice, routed, thresholds
from sentikit.ensembles.vote import Ties, vote
from sentikit.errors import InputError
from sentikit.runs.reading import ENCODER_SUFFIX
from sentikit.runs.table import RunTable
from sentikit.scoring import score, score_by_source

#: Kinds of runs that answer on own hardware, and that ask LLMs about some texts alone.
_ENCODERS, _TEAMS = ("train", "evaluate"), ("cascade", "vote")


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
    threshold, by_row, explanation = thresholds(team, scored, choice)
    cut = np.full(len(team), threshold)
    cut[team.scored] = by_row
    asked = rows.confidence < cut
    labels = np.where(asked, rows.llm, rows.encoder)
    names = display_names(team.members)
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
        worth=worth(team, labels, [rows.encoder, rows.llm], names, choice.resampling),
        curve=tuple(curve(scored, choice.resampling)) if known else (),
        best=choose(scored, Aim()) if known else None,
        notes=tuple(_notes(team, choice, rows)),
        labels=labels,
        asked=asked,
        team=team,
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
        worth=worth(team, labels, [encoder.answers.labels], [encoder.name], choice.resampling),
        curve=(),
        best=None,
        notes=(),
        labels=labels,
        asked=asked,
        team=team,
    )


def _notes(team: Team, choice: CascadeChoice, rows: Routed) -> list[str]:
    notes = []
    if choice.tune is not None:
        shared = len(_named(choice.tune) & _named(team))
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


def _named(team: Team) -> set[str]:
    """Return a team's texts, or the ids of texts that no run holds."""
    return set(team.examples.texts) - {""} or set(team.examples.ids)


def _per_thousand(cost: NDArray[np.float64] | None, asked: NDArray[np.bool_]) -> float | None:
    if not asked.any():
        return 0.0
    return None if cost is None else float(cost[asked].sum() / len(asked) * 1000)


def judge_vote(
    team: Team, ties: Ties = "first", resampling: Resampling | None = None
) -> JudgedVote:
    """Let recorded runs vote.

    Raises:
        InputError: fewer than two runs, or ties to break by probabilities that nobody records.
    """
    if len(team.members) < 2:
        raise InputError("A vote needs two runs at least, and three to be of use.")
    if ties == "probability" and all(m.answers.probabilities is None for m in team.members):
        raise InputError(
            "None of the runs records probabilities, so they cannot break ties. Let the first "
            "named break them: --ties first."
        )
    held = vote([member.answers for member in team.members], len(team.classes), ties)
    labels = [member.answers.labels for member in team.members]
    names = display_names(team.members)
    return JudgedVote(
        members=tuple(member.name for member in team.members),
        ties=ties,
        rows=len(team),
        unanimous=int(held.unanimous.sum()),
        tied=int(held.tied.sum()),
        cost=_cost_of_all(team.members),
        worth=worth(team, held.labels, labels, names, resampling or Resampling()),
        labels=held.labels,
    )


def _cost_of_all(members: Sequence[RunTable]) -> float | None:
    """Return USD for 1,000 texts of all members; None where that of one is unknown."""
    costs = [_cost_of(member) for member in members]
    return None if None in costs else sum(cost or 0.0 for cost in costs)


def _cost_of(member: RunTable) -> float | None:
    kind = member.manifest.get("kind")
    if kind in _ENCODERS or member.name.endswith(ENCODER_SUFFIX):
        return 0.0
    if member.cost is None or np.isnan(member.cost).all():
        return None
    # A team's row without a cost is one that no LLM was asked about.
    spent = np.nanmean(member.cost) if kind not in _TEAMS else np.nan_to_num(member.cost).mean()
    return float(spent) * 1000


def worth(
    team: Team,
    labels: NDArray[np.int64],
    members: Sequence[NDArray[np.int64]],
    names: Sequence[str],
    resampling: Resampling,
) -> Worth:
    """Score a team's answers beside its members'.

    Args:
        team: the runs.
        labels: class numbers that the team answers, (rows,).
        members: of each member that answered all rows, (rows,).
        names: of these members.
        resampling: of the intervals.
    """
    scored = team.scored
    if not len(scored):
        return Worth()
    gold, own, classes = team.gold[scored], labels[scored], len(team.classes)
    others = [found[scored] for found in members]
    singles, gains = [], []
    for found in others:
        singles.append(estimate_run(count_cells(gold, [found], classes), resampling).macro_f1)
        pair = count_cells(gold, [found, own], classes)
        gains.append(estimate_pair(pair, resampling).macro_f1)
    return Worth(
        score(gold, own, team.classes),
        score_by_source(gold, own, team.examples.select(scored).sources, team.classes),
        estimate_run(count_cells(gold, [own], classes), resampling).macro_f1,
        dict(zip(names, singles, strict=True)),
        dict(zip(names, gains, strict=True)),
    )
