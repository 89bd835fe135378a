"""The comparison of aligned runs: scores, tests, costs and advice."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sentikit.comparison.alignment import AlignedRuns, is_called, same_path
from sentikit.comparison.bootstrap import Resampling, estimate_run
from sentikit.comparison.counts import Numbers, Statistics, count_cells
from sentikit.comparison.money import Rates, break_even, check_rates, pareto_front, run_cost
from sentikit.comparison.results import (
    Advice,
    Difference,
    Estimates,
    Findings,
    Group,
    PluginMetric,
    RunFindings,
    SampleSizes,
    Spread,
    best_run,
)
from sentikit.comparison.significance import (
    ALPHA,
    POWER,
    Pairs,
    adjusted,
    check_delta,
    cochrans_q,
    holm,
    partnership,
    sample_size,
)
from sentikit.errors import InputError, did_you_mean
from sentikit.metrics import NamedMetric
from sentikit.registry import default_registry
from sentikit.runs.reading import ENCODER_SUFFIX
from sentikit.runs.table import Labelling, RunTable
from sentikit.scoring import Scores, score, without_curves
from sentikit.terminal import usd_text

if TYPE_CHECKING:
    import pandas as pd

#: With more runs than this, each is compared to the best instead of to all others.
MOST_FOR_ALL_PAIRS = 40

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, repr=False)
class Comparison(Findings):
    """A comparison's findings and the rows they were computed from.

    Attributes:
        aligned: every run's answer to every example.
    """

    aligned: AlignedRuns = field(kw_only=True)

    def to_frame(self, rows: str = "runs") -> pd.DataFrame:
        """Return a pandas table with a row for each run and source, or for each difference.

        Args:
            rows: ``runs`` or ``pairs``.
        """
        import pandas as pd

        if rows not in ("runs", "pairs"):
            raise InputError(f"rows must be 'runs' or 'pairs', not {rows!r}.")
        return pd.DataFrame(_presenter().records(self, rows))

    def __repr__(self) -> str:
        names = ", ".join(run.name for run in self.runs)
        return f"<Comparison of {names} on {self.examples:,} texts>"

    def _repr_html_(self) -> str:
        return str(_presenter().fragment(self))


def _presenter() -> Any:
    """Return the report format that shows a comparison in notebooks and to pandas."""
    found = default_registry().load("register_reports", "html")
    return found(found.Settings())


@dataclass(frozen=True)
class CompareOptions:
    baseline: str | None = None
    resampling: Resampling = field(default_factory=Resampling)
    rates: Rates = field(default_factory=Rates)
    delta: float | None = None
    metrics: tuple[NamedMetric, ...] = ()


def compare_aligned(
    aligned: AlignedRuns, options: CompareOptions, progress: Progress = lambda *_: None
) -> Comparison:
    """Judge aligned runs."""
    baseline = find_baseline(aligned.runs, options.baseline)
    check_rates(aligned.runs, options.rates)
    if options.delta is not None:
        check_delta(options.delta)
    findings = _findings(aligned, baseline, options, progress)
    pairs, fewer = _pairs(findings, baseline)
    judged = Pairs(aligned, options.resampling, len(pairs), options.metrics)
    differences, errors = _differences(judged, pairs, progress)
    labels = [run.answers.labels for run in aligned.runs]
    return Comparison(
        dataset=aligned.dataset,
        examples=len(aligned),
        classes=aligned.classes,
        sources={name: len(aligned.rows_of_source(name)) for name in aligned.sources},
        runs=tuple(findings),
        baseline=baseline,
        differences=differences,
        cochran_q=cochrans_q(aligned.gold, labels) if len(labels) > 2 else None,
        groups=group_runs(aligned.runs, findings),
        break_even=break_even(findings),
        sample_sizes=_sample_sizes(differences, errors, len(aligned), options.delta),
        advice=advise(findings, _p_to_best(findings, differences, judged)),
        resamples=options.resampling.resamples,
        seed=options.resampling.seed,
        confidence=options.resampling.confidence,
        notes=(
            *aligned.notes,
            *_warnings(aligned),
            *fewer,
            *_resolution(len(pairs), options.resampling),
        ),
        metrics=tuple(
            PluginMetric(own.name, own.title, own.higher_is_better) for own in options.metrics
        ),
        aligned=aligned,
    )


def find_baseline(runs: Sequence[RunTable], wanted: str | None) -> str | None:
    """Return the name of the run that the user gave by name or path."""
    if wanted is None:
        return None
    called = [run for run in runs if is_called(wanted, run.name, run.path)]
    # A full name or path is unambiguous, even if other runs' paths end in it.
    exact = [run for run in called if wanted in (run.name, run.path) or same_path(wanted, run.path)]
    found = exact or called
    if found and (exact or len(found) == 1):
        return found[0].name
    names = [run.name for run in runs]
    if found:
        matches = ", ".join(run.name for run in found)
        raise InputError(f"The baseline {wanted!r} matches {matches}. Give one of these names.")
    raise InputError(
        f"The baseline {wanted!r} is not among the runs. {did_you_mean(wanted, names)}"
    )


def _findings(
    aligned: AlignedRuns, baseline: str | None, options: CompareOptions, progress: Progress
) -> list[RunFindings]:
    findings = []
    for number, run in enumerate(aligned.runs):
        progress("runs", number, len(aligned.runs))
        findings.append(_judge(aligned, run, baseline, options))
    front = pareto_front(findings)
    return [replace(found, on_front=front[found.name]) for found in findings]


def _differences(
    judged: Pairs, pairs: Sequence[tuple[str, str]], progress: Progress
) -> tuple[tuple[Difference, ...], list[float]]:
    """Return the differences, with adjusted p-values, and their standard errors."""
    raw = []
    for number, pair in enumerate(pairs):
        progress("pairs", number, len(pairs))
        raw.append(judged.difference(*pair))
    errors = [estimates.standard_error for _, estimates in raw]
    return adjusted([found for found, _ in raw]), errors


def _judge(
    aligned: AlignedRuns, run: RunTable, baseline: str | None, options: CompareOptions
) -> RunFindings:
    classes, metrics, answers = aligned.classes, options.metrics, run.answers
    statistics = Statistics(len(classes), metrics, classes)

    def scored(gold: Numbers, own: Labelling) -> Scores:
        return score(gold, own.labels, classes, own.probabilities, metrics)

    def estimated(gold: Numbers, own: Labelling) -> Estimates:
        cells = count_cells(gold, [own.labels], len(classes))
        return estimate_run(cells, options.resampling, statistics)

    rows = {name: aligned.rows_of_source(name) for name in aligned.sources}
    parts = {name: (aligned.gold[own], answers.select(own)) for name, own in rows.items()}
    scores = scored(aligned.gold, answers)
    encoder = run.path.endswith(ENCODER_SUFFIX)
    return RunFindings(
        name=run.name,
        path=run.path,
        kind="encoder" if encoder else str(run.manifest.get("kind") or "file"),
        scores=scores,
        by_source={name: without_curves(scored(*part)) for name, part in parts.items()},
        estimates=estimated(aligned.gold, answers),
        estimates_by_source={name: estimated(*part) for name, part in parts.items()},
        partnership=partnership(aligned, run, baseline),
        cost=run_cost(run, scores.macro_f1, len(aligned), options.rates),
    )


def _pairs(
    findings: Sequence[RunFindings], baseline: str | None
) -> tuple[list[tuple[str, str]], list[str]]:
    names = [found.name for found in findings]
    if baseline is None and len(names) <= MOST_FOR_ALL_PAIRS:
        return list(itertools.combinations(names, 2)), []
    notes = []
    if baseline is None:
        baseline = best_run(findings).name
        pairs = len(names) * (len(names) - 1) // 2
        notes.append(
            f"{len(names)} runs make {pairs:,} pairs, so each run is only compared to the best, "
            f"{baseline}. Choose another run with --baseline."
        )
    return [(baseline, name) for name in names if name != baseline], notes


def _resolution(pairs: int, resampling: Resampling) -> list[str]:
    """Warn if no resampled p-value can be significant after adjustment."""
    smallest = pairs / (resampling.resamples + 1)
    if smallest < ALPHA:
        return []
    return [
        f"{resampling.resamples:,} resamples are too few for {pairs:,} differences: no permutation "
        f"test can fall below {min(1.0, smallest):.2g} after Holm's correction. Raise --resamples "
        "or give a --baseline."
    ]


def _p_to_best(
    findings: Sequence[RunFindings], differences: Sequence[Difference], judged: Pairs
) -> dict[str, float]:
    """Return each other run's p-value against the best, adjusted over these comparisons only."""
    best = best_run(findings).name
    known = {frozenset((d.first, d.second)): d.permutation.p for d in differences}
    names = [found.name for found in findings if found.name != best]
    values = []
    for name in names:
        p = known.get(frozenset((best, name)))
        values.append(judged.permutation_p(best, name) if p is None else p)
    return dict(zip(names, holm(values), strict=True))


def _sample_sizes(
    differences: Sequence[Difference], errors: Sequence[float], examples: int, delta: float | None
) -> SampleSizes | None:
    if delta is None:
        return None
    sizes = (
        sample_size(found, error, examples, delta)
        for found, error in zip(differences, errors, strict=True)
    )
    return SampleSizes(delta, ALPHA, POWER, tuple(sizes))


def _warnings(aligned: AlignedRuns) -> list[str]:
    warnings = []
    if len(aligned) < 100:
        warnings.append(f"{len(aligned)} texts are few: the intervals are wide and approximate.")
    support = np.bincount(aligned.gold, minlength=len(aligned.classes))
    absent = [name for name, n in zip(aligned.classes, support, strict=True) if not n]
    if absent:
        warnings.append(
            f"No text is {' or '.join(absent)}. Such a class counts as 0 in macro-F1, which is "
            "therefore low; compare accuracies."
        )
    for run in aligned.runs:
        invalid = int((run.answers.labels < 0).sum())
        if invalid:
            share = invalid / len(aligned)
            warnings.append(
                f"{run.name} has {invalid:,} invalid answers ({share:.1%}), which count as wrong."
            )
    if len(aligned.runs) == 1:
        warnings.append("There is only one run. Give another to compare it with.")
    return warnings


#: A difference below this rounds to 0.
_NOTHING = 0.00005


def advise(findings: Sequence[RunFindings], p_to_best: Mapping[str, float]) -> Advice:
    """Choose the cheapest run that is not significantly worse than the best.

    `p_to_best` has each other run's Holm-adjusted p-value of the macro-F1 difference.
    """
    best = best_run(findings)
    if len(findings) == 1:
        return Advice(best.name, f"{_scored(best)}; there is no other run to compare it with.")
    level = [run for run in findings if run is best or p_to_best[run.name] >= ALPHA]
    priced = [run for run in level if run.cost.total is not None]
    if best.cost.total is not None:
        cheapest = min(priced, key=lambda run: (run.cost.total or 0.0, -run.scores.macro_f1))
        saved = best.cost.total - (cheapest.cost.total or 0.0)
        if saved > 0:
            behind = best.scores.macro_f1 - cheapest.scores.macro_f1
            return Advice(
                cheapest.name,
                f"Use {_scored(cheapest)}: {best.name} scores {behind:.4f} higher, but not "
                f"significantly on these texts (p = {p_to_best[cheapest.name]:.2g}), and costs "
                f"${usd_text(saved)} more for them, training included.",
            )
    return Advice(best.name, _best(best, findings, level, p_to_best))


def _best(
    best: RunFindings,
    findings: Sequence[RunFindings],
    level: Sequence[RunFindings],
    p_to_best: Mapping[str, float],
) -> str:
    others = [run for run in findings if run is not best]
    runner_up = best_run(others)
    ahead = best.scores.macro_f1 - runner_up.scores.macro_f1
    above = f"{ahead:.4f} above" if ahead >= _NOTHING else "equal to"
    evidence = f"it is {above} {runner_up.name}, p = {p_to_best[runner_up.name]:.2g}"
    if len(level) == 1:
        rest = {1: "the other run", 2: "both others"}.get(len(others), f"all {len(others)} others")
        return f"Use {_scored(best)}: it is significantly better than {rest} ({evidence})."
    equals = [run.name for run in level if run is not best]
    names = equals[:3] + ([f"{len(equals) - 3} more"] if len(equals) > 3 else [])
    differs = f"difference from {names[0]} is"
    if len(names) > 1:
        differs = f"differences from {', '.join(names[:-1])} and {names[-1]} are"
    unknown = " Its cost is unknown." if best.cost.total is None else ""
    return (
        f"Use {_scored(best)}: it scores highest, but its {differs} not "
        f"significant on these texts ({evidence}).{unknown}"
    )


def _scored(run: RunFindings) -> str:
    bounds = run.estimates.macro_f1.percentile
    return f"{run.name} (macro-F1 {run.scores.macro_f1:.4f}, {bounds.low:.4f} to {bounds.high:.4f})"


#: The end of the name of one of several results files: -seed42, _round2, -r3, .run1.
_ROUND = re.compile(r"[-_. ]+(?:seed|round|run|rep|r|s)[-_ ]?\d+$", re.IGNORECASE)


def group_runs(runs: Sequence[RunTable], findings: Sequence[RunFindings]) -> tuple[Group, ...]:
    """Group runs whose recipes differ only in seeds, and files whose names differ in a round."""
    members: dict[tuple[str, str], list[RunFindings]] = {}
    for run, found in zip(runs, findings, strict=True):
        members.setdefault(_settings_key(run), []).append(found)
    return tuple(_group(key[1], found) for key, found in members.items() if len(found) > 1)


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and the sample standard deviation (n - 1)."""
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)))


def _group(key: str, found: Sequence[RunFindings]) -> Group:
    names = tuple(run.name for run in found)
    return Group(
        shared_name(names) if key.startswith("{") else key,
        names,
        spread([run.scores.macro_f1 for run in found]),
        spread([run.scores.accuracy for run in found]),
    )


def shared_name(names: Sequence[str]) -> str:
    """Return the common start of a group's names, or the first name."""
    start = names[0]
    for name in names[1:]:
        while not name.startswith(start):
            start = start[:-1]
    trimmed = _ROUND.sub("", start).rstrip("-_. ")
    trimmed = re.sub(r"[-_. ]*(?:seed|round|run|rep)$", "", trimmed, flags=re.IGNORECASE)
    return trimmed or names[0]


def _settings_key(run: RunTable) -> tuple[str, str]:
    suffix = ENCODER_SUFFIX if run.path.endswith(ENCODER_SUFFIX) else ""
    recipe = run.manifest.get("recipe")
    if recipe:
        return "recipe", json.dumps(_without_seeds(recipe), sort_keys=True)
    plain = run.name.removesuffix(suffix)
    return "name", (_ROUND.sub("", plain) or plain) + suffix


def _without_seeds(value: Any) -> Any:
    if isinstance(value, Mapping):
        left_out = ("seed", "description")
        return {key: _without_seeds(own) for key, own in value.items() if key not in left_out}
    if isinstance(value, list):
        return [_without_seeds(item) for item in value]
    return value
