"""What is found of a cascade or a vote of recorded runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.results import Estimate
from sentikit.ensembles.aim import Aim
from sentikit.ensembles.cascade import Operation
from sentikit.ensembles.curve import CurvePoint
from sentikit.ensembles.members import Team
from sentikit.ensembles.vote import Ties
from sentikit.scoring import Scores

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
    macro_f1: Estimate | None = None
    members: Mapping[str, Estimate] = field(default_factory=dict)
    gains: Mapping[str, Estimate] = field(default_factory=dict)

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
        team: the two runs, side by side.
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
    team: Team = field(repr=False)

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
class JudgedVote:
    """A vote of recorded runs.

    Attributes:
        members: the runs, most trusted first.
        ties: how ties are broken.
        rows: how many texts there are.
        unanimous: texts on which all agree.
        tied: texts on which several labels have the most votes.
        cost: USD of all members for 1,000 texts, encoders free; None unless all are known.
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
