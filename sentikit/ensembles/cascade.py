"""Cascades of recorded runs: their scores, and their curve over thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.alignment import display_names
from sentikit.comparison.bootstrap import Purpose, Resampling, percentile_intervals
from sentikit.comparison.comparison import compare
from sentikit.comparison.counts import macro_f1, tallies
from sentikit.comparison.judgement import Comparison
from sentikit.ensembles.ensemble import (
    Ensemble,
    EnsembleScores,
    Recorded,
    gather_runs,
    score_ensemble,
)
from sentikit.ensembles.thresholds import (
    Aim,
    CascadeChoice,
    Goal,
    OperatingPoint,
    Routed,
    all_cuts,
    choose,
    routed,
    thresholds,
)
from sentikit.errors import InputError, did_you_mean
from sentikit.runs.table import Labelling, RunTable

STEPS = 100
# Maximum number of counts in a piece of resamples.
_COUNTS_AT_A_TIME = 4_000_000
How = Literal["given", "tuned", "cross-fitted"]


@dataclass(frozen=True)
class CurvePoint(OperatingPoint):
    """A cascade at one threshold, with the confidence interval of its macro-F1."""

    low: float
    high: float


@dataclass(frozen=True)
class JudgedCascade:
    """The results of a cascade of two runs; scores and shares are fractions.

    Attributes:
        encoder: the encoder's run.
        llm: the LLM's run.
        threshold: the lowest top probability at which the encoder answers.
        how: whether the threshold was given, tuned on other runs, or cross-fitted on these.
        aim: the objective for choosing the threshold.
        explanation: one sentence on the choice of the threshold.
        rows: number of texts.
        calls: number of texts that the LLM answers.
        cost: USD of the LLM for 1,000 texts; None if unknown.
        llm_cost: USD for 1,000 texts if the LLM answered all.
        scores: against the gold labels.
        curve: scores at other thresholds, on the same texts; empty without gold labels.
        best: the best threshold in hindsight; None without gold labels.
        notes: sentences on the limits of the results.
        labels: predicted class numbers, (rows,).
        asked: whether the LLM answered, (rows,).
        ensemble: the two runs, row by row.
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
        """The share of texts that the LLM answers."""
        return self.calls / self.rows

    def summary(self) -> dict[str, Any]:
        """Return the values for ``metrics.json``."""
        share = {"calls": self.calls, "share_of_calls": self.share}
        return {"threshold": self.threshold, "how": self.how} | share

    def to_json(self) -> dict[str, Any]:
        """Return plain values; scores and shares are fractions, costs USD for 1,000 texts."""
        return {
            "encoder": self.encoder,
            "llm": self.llm,
            **self.summary(),
            "aim": dataclasses.asdict(self.aim),
            "explanation": self.explanation,
            "rows": self.rows,
            "cost_per_1000": self.cost,
            "llm_cost_per_1000": self.llm_cost,
            **self.scores.to_json(),
            "best_in_hindsight": None if self.best is None else dataclasses.asdict(self.best),
            "curve": [dataclasses.asdict(point) for point in self.curve],
            "notes": list(self.notes),
        }

    def table(self, name: str = "cascade") -> RunTable:
        """Return the cascade's answers as a run with that name, for comparisons."""
        encoder, llm = self.ensemble.members
        own, theirs = encoder.answers.probabilities, llm.answers.probabilities
        assert own is not None
        unknown = np.full_like(own, np.nan)
        shares = np.where(self.asked[:, None], unknown if theirs is None else theirs, own)
        section = {"members": [self.encoder, self.llm]}
        return RunTable(
            name=name,
            classes=self.ensemble.classes,
            examples=self.ensemble.examples,
            gold=self.ensemble.gold,
            answers=Labelling(self.labels, shares),
            cost=None if llm.cost is None else np.where(self.asked, llm.cost, 0.0),
            has_texts=encoder.has_texts or llm.has_texts,
            manifest={"kind": "cascade", "recipe": {"kind": "cascade", "cascade": section}},
            ordered=self.ensemble.ordered,
        )


def cascade(
    encoder: Recorded,
    llm: Recorded,
    *,
    threshold: float | None = None,
    tune: tuple[Recorded, Recorded] | None = None,
    goal: Goal = "f1",
    target: float | None = None,
    llm_cost: float | None = None,
) -> JudgedCascade:
    """Combine the recorded runs of an encoder and an LLM into a cascade.

    Args:
        encoder: the run that answers if its top probability is at least the threshold.
        llm: the run that answers otherwise.
        threshold: the threshold; by default it is chosen.
        tune: the encoder's and the LLM's runs on other texts, to choose it on; by default it is
            cross-fitted on these.
        goal: the best macro-F1, or the best within a share of calls or a cost.
        target: that share, or USD for 1,000 texts.
        llm_cost: USD for 1,000 texts, if the LLM's run does not record it.

    Raises:
        InputError: a run cannot be read, the runs are over different texts, the encoder has no
            probabilities, no threshold can be chosen, or the target does not fit the goal.
    """
    goals = get_args(Goal)
    if goal not in goals:
        raise InputError(f"Unknown goal {goal!r}. {did_you_mean(goal, goals)}")
    aim = Aim(goal, target)
    if aim.problem:
        raise InputError(aim.problem)
    tuning = gather_runs(tune) if tune else None
    return judge_cascade(
        gather_runs([encoder, llm]), CascadeChoice(threshold, tuning, aim, llm_cost)
    )


def compare_cascade(judged: JudgedCascade, llm_cost: float | None = None) -> Comparison:
    """Compare a cascade with its two members, for a report.

    Args:
        judged: the cascade.
        llm_cost: USD for 1,000 texts, if the LLM's run does not record it.

    Raises:
        InputError: no text has a gold label.
    """
    if not len(judged.ensemble.scored):
        raise InputError("A report needs gold labels, but no text has one.")
    given = {judged.llm: llm_cost, "cascade": judged.cost}
    costs = {name: cost for name, cost in given.items() if cost is not None}
    return compare([judged.table(), *judged.ensemble.members], inference_cost=costs)


def judge_cascade(
    ensemble: Ensemble,
    choice: CascadeChoice,
    asked: NDArray[np.bool_] | None = None,
    explanation: str = "",
) -> JudgedCascade:
    """Compute the results of a cascade of an ensemble's two runs.

    Args:
        ensemble: the encoder's run and the LLM's.
        choice: how to choose the threshold.
        asked: whether the LLM was asked, (rows,), if it answered only the texts sent to it; there
            are then no curve and no scores of the LLM alone.
        explanation: with `asked`, one sentence on a chosen threshold; "" if it was given.
    """
    encoder, llm = ensemble.members
    complete = asked is None
    notes: list[str] = []
    points: tuple[CurvePoint, ...] = ()
    best = None
    how: How = "tuned" if choice.tune or explanation else "given"
    if asked is None:
        rows = routed(ensemble, choice.llm_cost)
        scored = rows.select(ensemble.scored)
        threshold, by_row, explanation = thresholds(ensemble, scored, choice)
        cut = np.full(len(ensemble), threshold)
        cut[ensemble.scored] = by_row
        asked, cost = rows.confidence < cut, rows.cost
        notes = _notes(ensemble, choice, rows)
        if choice.threshold is None and not choice.tune:
            how = "cross-fitted"
        if len(scored):
            points, best = tuple(curve(scored, choice.resampling)), choose(scored, Aim())
    else:
        assert choice.threshold is not None
        threshold, explanation = choice.threshold, explanation or "Set by the user."
        cost = None if llm.cost is None else np.nan_to_num(llm.cost)
    labels = np.where(asked, llm.answers.labels, encoder.answers.labels)
    members = ensemble.members if complete else (encoder,)
    names = display_names(members) if complete else [encoder.name]
    return JudgedCascade(
        encoder=encoder.name,
        llm=llm.name,
        threshold=threshold,
        how=how,
        aim=choice.aim,
        explanation=explanation,
        rows=len(ensemble),
        calls=int(asked.sum()),
        cost=_per_thousand(cost, asked),
        llm_cost=_per_thousand(cost, ensemble.has_text) if complete else None,
        scores=score_ensemble(
            ensemble, labels, dict(zip(names, members, strict=True)), choice.resampling
        ),
        curve=points,
        best=best,
        notes=tuple(notes),
        labels=labels,
        asked=asked,
        ensemble=ensemble,
    )


def _notes(ensemble: Ensemble, choice: CascadeChoice, rows: Routed) -> list[str]:
    notes = []
    shared = len(_named(choice.tune) & _named(ensemble)) if choice.tune else 0
    if shared:
        notes.append(
            f"The threshold was chosen on {shared:,} of the scored texts, so the scores are too "
            "optimistic for new texts."
        )
    unsure = int((rows.confidence < 0).sum())
    if unsure:
        notes.append(
            f"The encoder has no label or no probabilities for {unsure:,} texts, which go to the "
            "LLM at any threshold."
        )
    unlabelled = len(ensemble) - len(ensemble.scored)
    if unlabelled:
        notes.append(f"{unlabelled:,} texts have no gold label and are not scored.")
    return notes


def _named(ensemble: Ensemble) -> set[str]:
    """Return an ensemble's texts, or its ids if no run has texts."""
    return set(ensemble.examples.texts) - {""} or set(ensemble.examples.ids)


def _per_thousand(cost: NDArray[np.float64] | None, asked: NDArray[np.bool_]) -> float | None:
    if not asked.any():
        return 0.0
    return None if cost is None else float(cost[asked].sum() / len(asked) * 1000)


def curve(rows: Routed, resampling: Resampling, steps: int = STEPS) -> list[CurvePoint]:
    """Return about `steps` points at even steps of calls, with the same resamples.

    The first point is the encoder alone (for the texts it answers), the last the LLM alone.
    """
    every = all_cuts(rows)
    shares = every.calls / every.rows
    wanted = np.linspace(shares[0], shares[-1], steps + 1)
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
    # The bin of a row is the first threshold at which it goes to the LLM.
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
