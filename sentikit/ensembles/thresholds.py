"""Thresholds of cascades: their operating points, and the choice of one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.bootstrap import Resampling
from sentikit.ensembles.ensemble import Ensemble
from sentikit.errors import InputError
from sentikit.runs.table import Labelling
from sentikit.scoring import confusion_counts, macro_f1

Goal = Literal["f1", "calls", "cost"]
#: A threshold above every probability: every text goes to the LLM.
EVERYTHING = 1.01
#: The confidence of an encoder without a label or probabilities: below every threshold.
UNSURE = -1.0
#: Confidence of a row without text, which no member labels: above every threshold.
NEVER_SENT = 2.0
FOLDS = 5


@dataclass(frozen=True)
class Aim:
    """The objective of a threshold: the best macro-F1, possibly within a target.

    The target is the maximum share of texts sent (``calls``), or USD for 1,000 texts (``cost``).
    """

    goal: Goal = "f1"
    target: float | None = None

    @property
    def problem(self) -> str | None:
        """Why the target does not fit the goal, as a sentence; None if it does."""
        goal, target = self.goal, self.target
        if goal == "f1":
            return None if target is None else "The goal f1 has no target; only calls and cost do."
        if target is None:
            wanted = "a share of texts, such as 0.2" if goal == "calls" else "USD for 1,000 texts"
            return f"The goal {goal} needs a target: {wanted}."
        if not 0 < target < float("inf"):
            return f"The target must be above 0, not {target:g}."
        if goal == "calls" and target > 1:
            return f"The target of calls must be at most 1, such as 0.2, not {target:g}."
        return None

    def __str__(self) -> str:
        if self.goal == "calls":
            return f"the best macro-F1 within {self.target:.1%} of the calls"
        if self.goal == "cost":
            return f"the best macro-F1 within ${self.target:g} for 1,000 texts"
        return "the best macro-F1"


@dataclass(frozen=True)
class CascadeChoice:
    """How to choose a cascade's threshold: given, tuned on other runs, or cross-fitted.

    `llm_cost` is USD for 1,000 texts, if the run does not record its costs.
    """

    threshold: float | None = None
    tune: Ensemble | None = None
    aim: Aim = field(default_factory=Aim)
    llm_cost: float | None = None
    resampling: Resampling = field(default_factory=Resampling)


@dataclass(frozen=True)
class Routed:
    """The rows of a cascade with both members' answers, as columns; class -1 is invalid.

    `confidence` is the encoder's top probability, `UNSURE` if there is none, or `NEVER_SENT` for a
    row without text; `cost` is USD of each row if the LLM answers it.
    """

    gold: NDArray[np.int64]
    encoder: NDArray[np.int64]
    confidence: NDArray[np.float64]
    llm: NDArray[np.int64]
    classes: int
    cost: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.gold)

    def select(self, rows: NDArray[np.int64]) -> Routed:
        cost = None if self.cost is None else self.cost[rows]
        gold, encoder, sure = self.gold[rows], self.encoder[rows], self.confidence[rows]
        return Routed(gold, encoder, sure, self.llm[rows], self.classes, cost)


def routed(ensemble: Ensemble, llm_cost: float | None = None) -> Routed:
    """Return the rows of an ensemble's first two runs; `llm_cost` is for 1,000 texts."""
    encoder, llm = ensemble.members[:2]
    cost = llm.cost
    if llm_cost is not None:
        cost = np.full(len(ensemble), llm_cost / 1000)
    elif cost is not None:
        # A row of unknown cost counts as the mean of the others.
        known = ~np.isnan(cost)
        cost = np.where(known, cost, cost[known].mean()) if known.any() else None
    return Routed(
        ensemble.gold,
        encoder.answers.labels,
        np.where(ensemble.has_text, _confidence(encoder.answers, encoder.name), NEVER_SENT),
        llm.answers.labels,
        len(ensemble.classes),
        cost,
    )


def _confidence(answers: Labelling, name: str) -> NDArray[np.float64]:
    if answers.probabilities is None:
        raise InputError(
            f"{name} has no probabilities, which a cascade needs for the encoder's confidence. "
            "Give the encoder's own run, or PATH#encoder of a run or file that has them."
        )
    known = ~np.isnan(answers.probabilities).any(1) & (answers.labels >= 0)
    return np.where(known, np.nan_to_num(answers.probabilities).max(1), UNSURE)


@dataclass(frozen=True)
class OperatingPoint:
    """A cascade at one threshold, the lowest top probability at which the encoder answers.

    Macro-F1 is a fraction; `share` is that of texts sent to the LLM; `cost` is USD for 1,000 texts,
    including those not sent.
    """

    threshold: float
    calls: int
    share: float
    macro_f1: float
    cost: float | None


@dataclass(frozen=True)
class Cuts:
    """The cascade at every distinct threshold, fewest calls first, as columns."""

    thresholds: NDArray[np.float64]
    calls: NDArray[np.int64]
    macro_f1: NDArray[np.float64]
    cost: NDArray[np.float64] | None
    rows: int

    def at(self, place: int) -> OperatingPoint:
        calls = int(self.calls[place])
        cost = None if self.cost is None else float(self.cost[place])
        f1, threshold = float(self.macro_f1[place]), float(self.thresholds[place])
        return OperatingPoint(threshold, calls, calls / self.rows, f1, cost)


def all_cuts(rows: Routed) -> Cuts:
    """Return the cascade at every distinct threshold.

    Rows of equal confidence stay together. A threshold lies halfway between the last row that is
    sent and the first that is not, so that rounding does not matter.
    """
    order = np.argsort(rows.confidence, kind="stable")
    ordered = rows.confidence[order]
    ordered = ordered[ordered < NEVER_SENT]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    between = (ordered[changes] + ordered[changes - 1]) / 2
    # Unsure rows are sent at any threshold; 0 separates them from the rest.
    between = np.where(ordered[changes - 1] == UNSURE, 0.0, between)
    ends = np.concatenate([changes, [len(ordered)]])
    thresholds = np.concatenate([between, [EVERYTHING]])
    if not len(ordered) or ordered[0] != UNSURE:
        ends, thresholds = np.concatenate([[0], ends]), np.concatenate([[0.0], thresholds])
    width = rows.classes + 1
    # How the confusion counts change with every row that is sent.
    moved = np.zeros((len(rows) + 1, rows.classes * width), np.int32)
    place, gold = np.arange(1, len(rows) + 1), rows.gold[order]
    for labels, change in ((rows.llm[order], 1), (rows.encoder[order], -1)):
        moved[place, gold * width + np.where(labels < 0, rows.classes, labels)] += change
    np.cumsum(moved, axis=0, out=moved)
    encoder_alone = confusion_counts(rows.gold, rows.encoder, rows.classes)
    counts = moved[ends].reshape(-1, rows.classes, width) + encoder_alone
    cost = None
    if rows.cost is not None:
        cost = np.concatenate([[0.0], np.cumsum(rows.cost[order])])[ends] / len(rows) * 1000
    return Cuts(thresholds, ends, macro_f1(counts), cost, len(rows))


def choose(rows: Routed, aim: Aim) -> OperatingPoint:
    """Return the threshold with the best macro-F1 within the aim; ties go to the fewest calls."""
    cuts = all_cuts(rows)
    if aim.goal == "cost" and cuts.cost is None:
        raise InputError(
            "The LLM's cost is unknown, so no threshold can be chosen for a cost. Set it with "
            "--llm-cost (USD for 1,000 texts), or choose the goal calls."
        )
    limited = {"calls": cuts.calls / cuts.rows, "cost": cuts.cost}.get(aim.goal)
    spent = np.zeros(len(cuts.calls)) if limited is None else limited
    within = spent <= (aim.target or 0) + 1e-12
    if not within.any():
        raise InputError(
            f"No threshold keeps the {aim.goal} within {aim.target:g}, because the encoder leaves "
            f"at least {spent[0]:g} to the LLM. Raise the target."
        )
    # The first of equals has the fewest calls.
    return cuts.at(int(np.where(within, cuts.macro_f1, -1.0).argmax()))


def cross_fit(
    rows: Routed, keys: Sequence[str], aim: Aim, folds: int = FOLDS
) -> NDArray[np.float64]:
    """Return a threshold for each row, (rows,), that was chosen without it.

    Folds are assigned by key, so that equal texts share a fold and the order of rows does not
    matter. Each fold uses the threshold chosen on the others: the result estimates the score of
    such a threshold on new texts.
    """
    if len(rows) < 2 * folds:
        raise InputError(
            f"{len(rows)} labelled texts are too few to choose a threshold. Set one with "
            "--threshold, or name other runs to choose it on with --tune."
        )
    # Distinct keys are assigned evenly, in the order of their digests.
    digests = {
        key: hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for key in set(keys)
    }
    rank = {key: i for i, key in enumerate(sorted(digests, key=digests.__getitem__))}
    fold = np.array([rank[key] % folds for key in keys], np.int64)
    thresholds = np.full(len(rows), np.nan)
    for number in range(folds):
        others = np.flatnonzero(fold != number)
        thresholds[fold == number] = choose(rows.select(others), aim).threshold
    return thresholds


def tuned(ensemble: Ensemble, choice: CascadeChoice, texts: str) -> tuple[float, str]:
    """Return the threshold chosen on an ensemble, and a sentence that calls its rows `texts`."""
    first, second = ensemble.members[:2]
    known = routed(ensemble, choice.llm_cost).select(ensemble.scored)
    if not len(known):
        raise InputError(
            f"{first.name} and {second.name} have no gold labels to choose a threshold on. "
            "Name runs on a labelled split."
        )
    point = choose(known, choice.aim)
    explanation = (
        f"Chosen for {choice.aim} on the {len(known):,} {texts}, where it sends {point.share:.1%} "
        f"to the LLM and macro-F1 is {point.macro_f1:.4f}."
    )
    return point.threshold, explanation


def thresholds(
    ensemble: Ensemble, scored: Routed, choice: CascadeChoice
) -> tuple[float, NDArray[np.float64], str]:
    """Return the threshold, the threshold of each row with a gold label, and an explanation."""
    if choice.threshold is not None:
        everywhere = np.full(len(scored), choice.threshold)
        return choice.threshold, everywhere, "Set by the user."
    if choice.tune is not None:
        cut, explanation = tuned(choice.tune, choice, "texts of the runs to tune on")
        return cut, np.full(len(scored), cut), explanation
    if not len(scored):
        raise InputError(
            "No text has a gold label, so no threshold can be chosen. Set one with --threshold, "
            "or choose it on other runs with --tune ENCODER_RUN LLM_RUN."
        )
    examples = ensemble.examples.select(ensemble.scored)
    by_row = cross_fit(scored, examples.texts if any(examples.texts) else examples.ids, choice.aim)
    threshold = choose(scored, choice.aim).threshold
    explanation = (
        f"Cross-fitted, because there is only one split: each fifth of the texts uses the "
        f"threshold chosen for {choice.aim} on the other four ({by_row.min():.3f} to "
        f"{by_row.max():.3f}). On all texts it would be {threshold:.3f}."
    )
    return threshold, by_row, explanation
