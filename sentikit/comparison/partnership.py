"""How an LLM uses the encoder's opinion it was shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.aligned import AlignedRun, AlignedRuns
from sentikit.comparison.results import ChangedDecisions, Partnership


def partnership(aligned: AlignedRuns, run: AlignedRun, baseline: str | None) -> Partnership | None:
    """Measure how a run follows its encoder; None for a run that was shown none.

    Args:
        aligned: all runs.
        run: one of them.
        baseline: the run all others are compared to, if there is one.
    """
    # A cascade's LLM was not shown what the encoder said: it stood in for it.
    if run.opinion is None or run.manifest.get("kind") == "cascade":
        return None
    rows = np.flatnonzero(run.opinion.labels >= 0)
    if not len(rows):
        return None
    said, answered = run.opinion.labels[rows], run.answers.labels[rows]
    followed, right = answered == said, said == aligned.gold[rows]
    when_right, when_wrong = _share(followed[right]), _share(followed[~right])
    known = when_right is not None and when_wrong is not None
    alone = runs_alone(aligned.runs, run, baseline)
    return Partnership(
        rows=len(rows),
        follow_rate=float(followed.mean()),
        follow_rate_right=when_right,
        follow_rate_wrong=when_wrong,
        discrimination_gap=when_right - when_wrong if known else None,  # type: ignore[operator]
        changed=tuple(changed_decisions(aligned.gold, run, other) for other in alone),
    )


def runs_alone(
    runs: Sequence[AlignedRun], run: AlignedRun, baseline: str | None
) -> list[AlignedRun]:
    """Return runs that may be the same LLM without the encoder.

    These are the runs without an opinion of the same model, where manifests say so; else the
    baseline, else the only LLM's run without an opinion.
    """
    others = [other for other in runs if other.opinion is None and _may_be_llm(other)]
    model = run.manifest.get("model")
    if model:
        same = [other for other in others if other.manifest.get("model") == model]
        if same:
            return same
    named = [other for other in others if other.name == baseline]
    if named:
        return named
    return others if len(others) == 1 else []


def changed_decisions(
    gold: NDArray[np.int64], augmented: AlignedRun, alone: AlignedRun
) -> ChangedDecisions:
    """Count where the augmented answer left the LLM's own for the encoder's, right and wrong."""
    assert augmented.opinion is not None
    said, answered = augmented.opinion.labels, augmented.answers.labels
    changed = (answered != alone.answers.labels) & (answered == said) & (said >= 0)
    right = int((changed & (answered == gold)).sum())
    return ChangedDecisions(alone.name, right, int(changed.sum()) - right)


def _may_be_llm(run: AlignedRun) -> bool:
    return run.manifest.get("kind", "prompt") == "prompt" and not run.path.endswith("#encoder")


def _share(followed: NDArray[np.bool_]) -> float | None:
    return float(followed.mean()) if len(followed) else None
