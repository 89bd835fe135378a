"""`sentikit.cascade` and `sentikit.vote`: ensembles of recorded runs, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.vote import Ties
from sentikit.comparison.comparison import compare
from sentikit.comparison.judgement import Comparison
from sentikit.ensembles.ensemble import Ensemble, gather
from sentikit.ensembles.judgement import JudgedCascade, JudgedVote, judge_cascade, judge_vote
from sentikit.ensembles.thresholds import Aim, CascadeChoice, Goal, aim_problem
from sentikit.errors import InputError, did_you_mean
from sentikit.runs.reading import read_run
from sentikit.runs.table import Labelling, RunTable

#: A run's folder, a results file, PATH#encoder, or rows read already.
Recorded = str | Path | RunTable


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
    """Put an LLM's recorded run behind an encoder's.

    Args:
        encoder: answers where its top probability is at least the threshold.
        llm: answers elsewhere.
        threshold: without one, it is chosen.
        tune: the encoder's and the LLM's runs on other texts, to choose it on; without them it is
            cross-fitted on these.
        goal: the best macro-F1, or the best within a share of calls or a cost.
        target: that share, or USD for 1,000 texts.
        llm_cost: USD for 1,000 texts, where the LLM's run does not say.

    Raises:
        InputError: a run cannot be read, they are over different texts, the encoder has no
            probabilities, no threshold can be chosen, or goal and target do not go together.
    """
    goals = get_args(Goal)
    if goal not in goals:
        raise InputError(f"Unknown goal {goal!r}. {did_you_mean(goal, goals)}")
    problem = aim_problem(goal, target)
    if problem:
        raise InputError(problem)
    tuning = _ensemble(tune) if tune else None
    choice = CascadeChoice(threshold, tuning, Aim(goal, target), llm_cost)
    return judge_cascade(_ensemble([encoder, llm]), choice)


def compare_cascade(judged: JudgedCascade, llm_cost: float | None = None) -> Comparison:
    """Compare a cascade to its two members, as for a report.

    Args:
        judged: the cascade.
        llm_cost: USD for 1,000 texts, where the LLM's run does not say.

    Raises:
        InputError: no text has a gold label.
    """
    if not len(judged.ensemble.scored):
        raise InputError("No text has a gold label; there is nothing a report could show.")
    given = {judged.llm: llm_cost, "cascade": judged.cost}
    costs = {name: cost for name, cost in given.items() if cost is not None}
    runs = [cascade_table(judged.ensemble, judged), *judged.ensemble.members]
    return compare(runs, inference_cost=costs)


def vote(runs: Sequence[Recorded], ties: Ties = "first") -> JudgedVote:
    """Let recorded runs vote on every text.

    Args:
        runs: most trusted first.
        ties: among labels with equally many votes: the one of the first named run that gave one
            of them, or the one with the highest mean probability.

    Raises:
        InputError: a run cannot be read, or they are over different texts.
    """
    return judge_vote(_ensemble(runs), ties)


def _ensemble(runs: Sequence[Recorded]) -> Ensemble:
    return gather([run if isinstance(run, RunTable) else read_run(run) for run in runs])


def cascade_table(ensemble: Ensemble, judged: JudgedCascade, name: str = "cascade") -> RunTable:
    """Return a cascade's answers as a run of that name, to compare it with others."""
    encoder, llm = ensemble.members
    cost = None if llm.cost is None else np.where(judged.asked, llm.cost, 0.0)
    return RunTable(
        name=name,
        classes=ensemble.classes,
        examples=ensemble.examples,
        gold=ensemble.gold,
        answers=Labelling(judged.labels, chosen_probabilities(encoder, llm, judged.asked)),
        cost=cost,
        has_texts=encoder.has_texts or llm.has_texts,
        manifest={
            "kind": "cascade",
            "recipe": {
                "kind": "cascade",
                "cascade": {"encoder": judged.encoder, "llm": judged.llm},
            },
        },
    )


def chosen_probabilities(
    encoder: RunTable, llm: RunTable, asked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the probabilities of the member that answered, (rows, classes), NaN where unknown."""
    known = encoder.answers.probabilities
    assert known is not None
    theirs = llm.answers.probabilities
    unknown = np.full_like(known, np.nan)
    return np.where(asked[:, None], unknown if theirs is None else theirs, known)
