"""Judgement of recorded cascades and votes: scores with intervals, gains and a cascade's curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.vote import Ties
from sentikit.comparison.alignment import display_names
from sentikit.comparison.bootstrap import (
    Purpose,
    Resampling,
    estimate_pair,
    estimate_run,
    percentile_intervals,
)
from sentikit.comparison.counts import count_cells, macro_f1, tallies
from sentikit.comparison.results import Estimate
from sentikit.ensembles.ensemble import Ensemble, VoteCount, vote
from sentikit.ensembles.thresholds import (
    Aim,
    CascadeChoice,
    OperatingPoint,
    Routed,
    all_cuts,
    choose,
    routed,
    thresholds,
)
from sentikit.errors import InputError
from sentikit.runs.reading import ENCODER_SUFFIX
from sentikit.runs.table import RunTable
from sentikit.scoring import Scores, score, score_by_source

STEPS = 100
# A piece of resamples holds at most so many counts.
_COUNTS_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class CurvePoint(OperatingPoint):
    """A cascade at one threshold, and where its macro-F1 lies with the asked confidence."""

    low: float
    high: float


def curve(rows: Routed, resampling: Resampling, steps: int = STEPS) -> list[CurvePoint]:
    """Return macro-F1 against share of calls and cost, in about `steps` even steps of calls.

    The first point is the encoder alone (as far as it answers), the last the LLM alone. All
    points are drawn on the same resamples of the texts.
    """
    every = all_cuts(rows)
    shares = every.calls / every.rows
    wanted = np.linspace(shares[0], 1.0, steps + 1)
    right = np.clip(np.searchsorted(shares, wanted), 1, max(1, len(shares) - 1))
    nearer = wanted - shares[right - 1] <= shares[np.minimum(right, len(shares) - 1)] - wanted
    chosen = np.unique(np.where(nearer, right - 1, np.minimum(right, len(shares) - 1)))
    points = [every.at(int(place)) for place in chosen]
    drawn = _resampled(rows, [point.threshold for point in points], resampling)
    intervals = percentile_intervals(drawn, resampling.confidence)
    return [
        CurvePoint(**point.__dict__, low=bounds.low, high=bounds.high)
        for point, bounds in zip(points, intervals, strict=True)
    ]


def _resampled(
    rows: Routed, thresholds: Sequence[float], resampling: Resampling
) -> NDArray[np.float64]:
    """Return macro-F1 of each resample at each threshold, (resamples, thresholds)."""
    # The bin of a row is the first threshold at which it is sent.
    bins = np.searchsorted(np.array(thresholds), rows.confidence, side="right")
    columns = np.column_stack([bins, rows.gold, rows.encoder, rows.llm])
    kinds, counts = np.unique(columns, axis=0, return_counts=True)
    bin_of, gold, encoder, llm = kinds.T
    kept = tallies(gold, encoder, rows.classes)
    changes = tallies(gold, llm, rows.classes) - kept
    ends = np.searchsorted(bin_of, np.arange(len(thresholds)), side="right")
    drawn, most = [], max(1, _COUNTS_AT_A_TIME // len(kinds))
    for weights in resampling.counts(counts, Purpose.CURVE, most):
        tallied, start = weights @ kept, 0
        scores = np.empty((len(weights), len(thresholds)))
        for number, end in enumerate(ends.tolist()):
            tallied += weights[:, start:end] @ changes[start:end]
            scores[:, number], start = macro_f1(tallied), end
        drawn.append(scores)
    return np.concatenate(drawn)


How = Literal["given", "tuned", "cross-fitted"]


@dataclass(frozen=True)
class EnsembleScores:
    """What a ensemble's answers are worth, beside its members'; None and empty without gold labels.

    Attributes:
        scores: of the ensemble.
        by_source: the same for each source.
        macro_f1: of the ensemble, with its interval.
        members: each member's macro-F1, by name.
        gains: how much the ensemble is above each member, by name; on the same resamples.
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
        scores: against the gold labels.
        curve: at other thresholds, judged on these same texts; empty without gold labels.
        best: the best point of all, in hindsight; None without gold labels.
        notes: what a reader must know.
        labels: class numbers answered, (rows,).
        asked: whether the LLM answered, (rows,).
        ensemble: the two runs, side by side.
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
    scores: EnsembleScores
    curve: tuple[CurvePoint, ...]
    best: OperatingPoint | None
    notes: tuple[str, ...]
    labels: NDArray[np.int64]
    asked: NDArray[np.bool_]
    ensemble: Ensemble = field(repr=False)

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
            **self.scores.to_json(),
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
        scores: against the gold labels.
        labels: class numbers answered, (rows,).
    """

    members: tuple[str, ...]
    ties: Ties
    rows: int
    unanimous: int
    tied: int
    cost: float | None
    scores: EnsembleScores
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
            **self.scores.to_json(),
        }


#: Kinds of runs that answer on own hardware, and that ask LLMs about some texts alone.
_ENCODERS, _ENSEMBLES = ("train", "evaluate"), ("cascade", "vote")


def judge_cascade(ensemble: Ensemble, choice: CascadeChoice) -> JudgedCascade:
    """Put the second run behind the first.

    Args:
        ensemble: the encoder's run and the LLM's.
        choice: where the threshold comes from.

    Raises:
        InputError: the encoder has no probabilities, there is nothing to choose a threshold on,
            or none meets the aim.
    """
    rows = routed(ensemble, choice.llm_cost)
    scored = rows.select(ensemble.scored)
    threshold, by_row, explanation = thresholds(ensemble, scored, choice)
    cut = np.full(len(ensemble), threshold)
    cut[ensemble.scored] = by_row
    asked = rows.confidence < cut
    labels = np.where(asked, rows.llm, rows.encoder)
    names = display_names(ensemble.members)
    known = len(scored) > 0
    return JudgedCascade(
        encoder=ensemble.members[0].name,
        llm=ensemble.members[1].name,
        threshold=threshold,
        how="given" if choice.threshold is not None else "tuned" if choice.tune else "cross-fitted",
        aim=choice.aim,
        explanation=explanation,
        rows=len(ensemble),
        calls=int(asked.sum()),
        cost=_per_thousand(rows.cost, asked),
        llm_cost=_per_thousand(rows.cost, np.ones(len(ensemble), bool)),
        scores=ensemble_scores(
            ensemble, labels, [rows.encoder, rows.llm], names, choice.resampling
        ),
        curve=tuple(curve(scored, choice.resampling)) if known else (),
        best=choose(scored, Aim()) if known else None,
        notes=tuple(_notes(ensemble, choice, rows)),
        labels=labels,
        asked=asked,
        ensemble=ensemble,
    )


def judge_answers(
    ensemble: Ensemble,
    asked: NDArray[np.bool_],
    choice: CascadeChoice,
    explanation: str,
    tuned: bool = False,
) -> JudgedCascade:
    """Judge a cascade whose LLM answered nothing but the texts sent to it.

    There is no curve, and nothing to say of the LLM alone.

    Args:
        ensemble: the encoder's run, and the LLM's with the rows that it was not asked unanswered.
        asked: whether the LLM was, (rows,).
        choice: the threshold in use, and what it was chosen for.
        explanation: one sentence on where it comes from.
        tuned: whether it was chosen, not given.
    """
    assert choice.threshold is not None
    encoder, llm = ensemble.members
    labels = np.where(asked, llm.answers.labels, encoder.answers.labels)
    spent = None if llm.cost is None else np.nan_to_num(llm.cost)
    return JudgedCascade(
        encoder=encoder.name,
        llm=llm.name,
        threshold=choice.threshold,
        how="tuned" if tuned else "given",
        aim=choice.aim,
        explanation=explanation,
        rows=len(ensemble),
        calls=int(asked.sum()),
        cost=_per_thousand(spent, asked),
        llm_cost=None,
        scores=ensemble_scores(
            ensemble, labels, [encoder.answers.labels], [encoder.name], choice.resampling
        ),
        curve=(),
        best=None,
        notes=(),
        labels=labels,
        asked=asked,
        ensemble=ensemble,
    )


def _notes(ensemble: Ensemble, choice: CascadeChoice, rows: Routed) -> list[str]:
    notes = []
    if choice.tune is not None:
        shared = len(_named(choice.tune) & _named(ensemble))
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
    unlabelled = len(ensemble) - len(ensemble.scored)
    if unlabelled:
        notes.append(f"{unlabelled:,} texts have no gold label and are not scored.")
    return notes


def _named(ensemble: Ensemble) -> set[str]:
    """Return a ensemble's texts, or the ids of texts that no run holds."""
    return set(ensemble.examples.texts) - {""} or set(ensemble.examples.ids)


def _per_thousand(cost: NDArray[np.float64] | None, asked: NDArray[np.bool_]) -> float | None:
    if not asked.any():
        return 0.0
    return None if cost is None else float(cost[asked].sum() / len(asked) * 1000)


def judge_vote(
    ensemble: Ensemble,
    ties: Ties = "first",
    resampling: Resampling | None = None,
    counted: VoteCount | None = None,
    cost: float | None = None,
) -> JudgedVote:
    """Judge a vote, of recorded runs unless its outcome is given.

    Args:
        ensemble: the members' predictions.
        ties: how ties are broken.
        resampling: of the intervals.
        counted: the outcome.
        cost: with `counted`, USD for 1,000 texts, or None.

    Raises:
        InputError: fewer than two runs, or ties to break by probabilities that nobody records.
    """
    if len(ensemble.members) < 2:
        raise InputError("A vote needs two runs at least, and three to be of use.")
    if (
        counted is None
        and ties == "probability"
        and all(m.answers.probabilities is None for m in ensemble.members)
    ):
        raise InputError(
            "None of the runs records probabilities, so they cannot break ties. Let the first "
            "named break them: --ties first."
        )
    held = counted or vote([m.answers for m in ensemble.members], len(ensemble.classes), ties)
    labels = [member.answers.labels for member in ensemble.members]
    names = display_names(ensemble.members)
    return JudgedVote(
        members=tuple(member.name for member in ensemble.members),
        ties=ties,
        rows=len(ensemble),
        unanimous=int(held.unanimous.sum()),
        tied=int(held.tied.sum()),
        cost=cost if counted else _cost_of_all(ensemble.members),
        scores=ensemble_scores(ensemble, held.labels, labels, names, resampling or Resampling()),
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
    # A ensemble's row without a cost is one that no LLM was asked about.
    spent = np.nanmean(member.cost) if kind not in _ENSEMBLES else np.nan_to_num(member.cost).mean()
    return float(spent) * 1000


def ensemble_scores(
    ensemble: Ensemble,
    labels: NDArray[np.int64],
    members: Sequence[NDArray[np.int64]],
    names: Sequence[str],
    resampling: Resampling,
) -> EnsembleScores:
    """Score a ensemble's answers beside its members'.

    Args:
        ensemble: the runs.
        labels: class numbers that the ensemble answers, (rows,).
        members: of each member that answered all rows, (rows,).
        names: of these members.
        resampling: of the intervals.
    """
    scored = ensemble.scored
    if not len(scored):
        return EnsembleScores()
    gold, own, classes = ensemble.gold[scored], labels[scored], len(ensemble.classes)
    others = [found[scored] for found in members]
    singles, gains = [], []
    for found in others:
        singles.append(estimate_run(count_cells(gold, [found], classes), resampling).macro_f1)
        pair = count_cells(gold, [found, own], classes)
        gains.append(estimate_pair(pair, resampling).macro_f1)
    return EnsembleScores(
        score(gold, own, ensemble.classes),
        score_by_source(gold, own, ensemble.examples.select(scored).sources, ensemble.classes),
        estimate_run(count_cells(gold, [own], classes), resampling).macro_f1,
        dict(zip(names, singles, strict=True)),
        dict(zip(names, gains, strict=True)),
    )
