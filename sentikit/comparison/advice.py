"""One plain sentence: which run to use, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sentikit.amounts import usd_text
from sentikit.comparison.results import Advice, RunFindings

_LEVEL = 0.05
#: A difference below this is written as 0.
_LEVEL_WITH = 0.00005


def advise(findings: Sequence[RunFindings], p_to_best: Mapping[str, float]) -> Advice:
    """Choose the cheapest run that is not proved worse than the best.

    Args:
        findings: of all runs.
        p_to_best: a run's name to the p-value of its macro-F1 difference from the best run,
            adjusted by Holm.
    """
    best = best_run(findings)
    if len(findings) == 1:
        return Advice(best.name, f"{_scored(best)}; there is no other run to compare it with.")
    level = [run for run in findings if run is best or p_to_best[run.name] >= _LEVEL]
    priced = [run for run in level if run.cost.total is not None]
    if best.cost.total is not None and len(priced) > 1:
        cheapest = min(priced, key=lambda run: (run.cost.total or 0.0, -run.scores.macro_f1))
        if (cheapest.cost.total or 0.0) < best.cost.total:
            return Advice(cheapest.name, _cheaper(cheapest, best, p_to_best))
    return Advice(best.name, _best(best, findings, level, p_to_best))


def best_run(findings: Sequence[RunFindings]) -> RunFindings:
    """Return the run with the highest macro-F1, of equals the one with the first name."""
    return min(findings, key=lambda run: (-run.scores.macro_f1, run.name))


def _cheaper(run: RunFindings, best: RunFindings, p_to_best: Mapping[str, float]) -> str:
    behind = best.scores.macro_f1 - run.scores.macro_f1
    saved = (best.cost.total or 0.0) - (run.cost.total or 0.0)
    return (
        f"Use {_scored(run)}: the best, {best.name}, is {behind:.4f} higher, which these texts do "
        f"not show to be more than chance (p = {_p(p_to_best[run.name])}), and costs "
        f"${usd_text(saved)} more for them, training included."
    )


def _best(
    best: RunFindings,
    findings: Sequence[RunFindings],
    level: Sequence[RunFindings],
    p_to_best: Mapping[str, float],
) -> str:
    others = [run for run in findings if run is not best]
    runner_up = best_run(others)
    ahead = best.scores.macro_f1 - runner_up.scores.macro_f1
    above = f"{ahead:.4f} above" if ahead >= _LEVEL_WITH else "level with"
    evidence = f"it is {above} {runner_up.name}, p = {_p(p_to_best[runner_up.name])}"
    if len(level) == 1:
        whom = {1: "the other run", 2: "both others"}.get(len(others), f"all {len(others)} others")
        return f"Use {_scored(best)}: it is significantly better than {whom} ({evidence})."
    equals = [run.name for run in level if run is not best]
    listed = ", ".join(equals[:3]) + (f" and {len(equals) - 3} more" if len(equals) > 3 else "")
    unknown = " No costs are known to choose by." if best.cost.total is None else ""
    return (
        f"Use {_scored(best)}, the highest, but these texts do not tell it from {listed} "
        f"({evidence}).{unknown}"
    )


def _scored(run: RunFindings) -> str:
    bounds = run.estimates.macro_f1.percentile
    return f"{run.name} (macro-F1 {run.scores.macro_f1:.4f}, {bounds.low:.4f} to {bounds.high:.4f})"


def _p(value: float) -> str:
    return f"{value:.2g}"
