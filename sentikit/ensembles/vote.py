"""Votes of recorded runs and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.vote import Ties, Winner, elect
from sentikit.comparison.alignment import display_names
from sentikit.comparison.bootstrap import Resampling
from sentikit.ensembles.ensemble import (
    Ensemble,
    EnsembleScores,
    Recorded,
    gather_runs,
    score_ensemble,
)
from sentikit.errors import InputError
from sentikit.runs.reading import ENCODER_SUFFIX
from sentikit.runs.table import Labelling, RunTable

#: Kinds of runs without LLMs, and those that ask LLMs only about some texts.
_ENCODERS, _ENSEMBLES = ("train", "evaluate"), ("cascade", "vote")


@dataclass(frozen=True)
class JudgedVote:
    """The results of a vote of recorded runs.

    `cost` is USD of all members for 1,000 texts, with encoders free; None unless all are known.
    """

    members: tuple[str, ...]
    ties: Ties
    rows: int
    unanimous: int
    tied: int
    cost: float | None
    scores: EnsembleScores
    labels: NDArray[np.int64]
    ensemble: Ensemble = field(repr=False)

    def summary(self) -> dict[str, Any]:
        return {"ties": self.ties, "unanimous": self.unanimous, "tied": self.tied}

    def to_json(self) -> dict[str, Any]:
        more = {"rows": self.rows, "cost_per_1000": self.cost, **self.scores.to_json()}
        return {"voters": list(self.members), **self.summary(), **more}


def vote(runs: Sequence[Recorded], ties: Ties = "first") -> JudgedVote:
    """Let recorded runs vote on every text.

    Args:
        runs: the most reliable first.
        ties: break ties by the first run, or by the highest mean probability.

    Raises:
        InputError: there are fewer than two runs, one cannot be read, they are over different
            texts, or none has probabilities to break ties.
    """
    if len(runs) < 2:
        raise InputError("A vote needs at least two runs, and three to be useful.")
    return vote_of(gather_runs(runs), ties)


def vote_of(ensemble: Ensemble, ties: Ties) -> JudgedVote:
    """Let the members of an ensemble vote."""
    answers = [member.answers for member in ensemble.members]
    if ties == "probability" and all(own.probabilities is None for own in answers):
        raise InputError(
            "None of the runs has probabilities to break ties. Use --ties first, which takes the "
            "first run's label."
        )
    costs = [answer_costs(member) for member in ensemble.members]
    known = not any(np.isnan(own).all() for own in costs)
    cost = sum(float(np.nanmean(own)) * 1000 for own in costs) if known else None
    return judge_vote(ensemble, count_votes(answers, ties), ties, cost)


def judge_vote(
    ensemble: Ensemble,
    winners: Sequence[Winner],
    ties: Ties,
    cost: float | None,
    labels: NDArray[np.int64] | None = None,
) -> JudgedVote:
    """Compute a vote's results; by default its labels are the winners'."""
    if labels is None:
        labels = np.array([winner.number for winner in winners], np.int64)
    members = dict(zip(display_names(ensemble.members), ensemble.members, strict=True))
    return JudgedVote(
        members=tuple(member.name for member in ensemble.members),
        ties=ties,
        rows=len(ensemble),
        unanimous=sum(winner.votes == len(members) for winner in winners),
        tied=sum(winner.tied for winner in winners),
        cost=cost,
        scores=score_ensemble(ensemble, labels, members, Resampling()),
        labels=labels,
        ensemble=ensemble,
    )


def count_votes(members: Sequence[Labelling], ties: Ties = "first") -> list[Winner]:
    """Return the winner of each row; the most reliable member comes first."""
    labels = np.stack([member.labels for member in members], 1).tolist()
    shares = [_known_probabilities(member) for member in members]
    return [elect(votes, [own[row] for own in shares], ties) for row, votes in enumerate(labels)]


def _known_probabilities(member: Labelling) -> list[list[float] | None]:
    if member.probabilities is None:
        return [None] * len(member.labels)
    return [None if np.isnan(row).any() else row.tolist() for row in member.probabilities]


def answer_costs(member: RunTable) -> NDArray[np.float64]:
    """Return USD of each row, (rows,); NaN if unknown, and 0 for encoders."""
    kind = member.manifest.get("kind")
    if kind in _ENCODERS or member.name.endswith(ENCODER_SUFFIX):
        return np.zeros(len(member))
    if member.cost is None or np.isnan(member.cost).all():
        return np.full(len(member), np.nan)
    # In an ensemble, a row without a cost was not sent to an LLM.
    return np.nan_to_num(member.cost) if kind in _ENSEMBLES else member.cost
