"""Figures of a comparison and of a run, and the files they are saved to."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentikit import Comparison, InputError
from sentikit.extension import Difference, JudgedCascade, RunFindings, disk_errors, read_json

from . import charts
from .charts import Bar, Mark, Priced
from .drawing import Figure, check_plotting, save_drawing, sheet

#: With more runs, charts with one panel per run show only the best.
MOST_PANELS = 12
#: With more differences, a chart of them is unreadable.
MOST_DIFFERENCES = 24
#: Pixels: two columns of a paper, 7 inches, at 300 dots per inch.
_PAPER = 2100
_FORMATS = ("png", "svg")
LOG, METRICS = "log.jsonl", "metrics.json"
_PLOTS, _LEARNING_CURVES, _CONFUSION = "plots", "learning_curves.png", "confusion_matrix.png"


def comparison_figures(
    comparison: Comparison, cascade: JudgedCascade | None = None
) -> dict[str, list[Figure]]:
    """Return the figures that the data allows, by name.

    ``scores`` and ``confusion_matrices`` are always there. ``differences`` needs several runs,
    ``cost_front`` costs, ``sources`` sources, ``reliability``, ``roc`` and ``precision_recall``
    probabilities, ``metrics`` metrics of plugins, and ``cascade_curve`` a cascade.
    """
    about = f"{comparison.examples:,} texts, {comparison.percent} intervals"
    best = by_score(comparison)[:MOST_PANELS]
    invalid = any(run.scores.invalid for run in best)
    figures = {
        "scores": [
            Figure("Macro-F1", charts.forest("Macro-F1 of all runs", _scores(comparison)), about)
        ],
        "differences": _differences(comparison, about),
        "metrics": _metrics(comparison, about),
        "cost_front": _cost_front(comparison),
        "confusion_matrices": [
            Figure(
                run.name,
                charts.confusion(f"Confusion matrix of {run.name}", run.scores.confusion, invalid),
                f"macro-F1 {run.scores.macro_f1:.4f}",
            )
            for run in best
        ],
        "sources": [
            Figure(
                source,
                charts.source_bars(f"Macro-F1 on {source}", _source_bars(best, source)),
                f"{examples:,} texts",
            )
            for source, examples in comparison.sources.items()
        ],
        "reliability": [
            Figure(
                run.name,
                charts.reliability(f"Reliability of {run.name}", run.scores.calibration.bins),
                f"ECE {run.scores.calibration.ece:.3f}",
            )
            for run in _with_probabilities(comparison)
            if run.scores.calibration
        ],
        "roc": _curves(comparison, "roc"),
        "precision_recall": _curves(comparison, "precision_recall"),
        "cascade_curve": _cascade_curve(cascade),
    }
    return {name: found for name, found in figures.items() if found}


def by_score(comparison: Comparison) -> list[RunFindings]:
    """Return the runs, best macro-F1 first."""
    return sorted(comparison.runs, key=lambda run: -run.scores.macro_f1)


def _scores(comparison: Comparison) -> list[Bar]:
    advised = comparison.advice.run
    return [
        _bar(run.name, run.estimates.macro_f1, run.name == advised) for run in by_score(comparison)
    ]


def _bar(name: str, estimate: Any, stands_out: bool) -> Bar:
    bounds = estimate.percentile
    return Bar(name, estimate.value, bounds.low, bounds.high, stands_out)


def _differences(comparison: Comparison, about: str) -> list[Figure]:
    if not 0 < len(comparison.differences) <= MOST_DIFFERENCES:
        return []
    caption = "Differences of macro-F1"
    caption += f" from {comparison.baseline}" if comparison.baseline else ""
    bars = [
        _bar(_pair(found, comparison.baseline), found.macro_f1, _is_clear(found.macro_f1))
        for found in comparison.differences
    ]
    note = f"{about}; blue: the interval excludes 0"
    return [Figure(caption, charts.forest(caption, bars, signed=True), note)]


def _metrics(comparison: Comparison, about: str) -> list[Figure]:
    """Return the scores in each plugin's metric, and the differences in it."""
    figures = []
    for metric in comparison.metrics:
        best = sorted(
            comparison.runs,
            key=lambda run: run.scores.metrics[metric.name],
            reverse=metric.higher_is_better,
        )
        bars = [_bar(run.name, run.estimates.metrics[metric.name], run is best[0]) for run in best]
        note = about if metric.higher_is_better else f"{about}; lower is better"
        figures.append(Figure(metric.title, charts.forest(metric.title, bars), note))
        if 0 < len(comparison.differences) <= MOST_DIFFERENCES:
            bars = [
                _bar(_pair(found, comparison.baseline), own, _is_clear(own))
                for found in comparison.differences
                for own in (found.metrics[metric.name].difference,)
            ]
            caption = f"Differences in {metric.title}"
            figures.append(Figure(caption, charts.forest(caption, bars, signed=True), about))
    return figures


def _pair(found: Difference, baseline: str | None) -> str:
    return found.second if found.first == baseline else f"{found.first} → {found.second}"


def _is_clear(difference: Any) -> bool:
    return bool(difference.percentile.low > 0 or difference.percentile.high < 0)


def _cost_front(comparison: Comparison) -> list[Figure]:
    priced = [
        Priced(run.name, run.cost.total, run.scores.macro_f1, bool(run.on_front))
        for run in comparison.runs
        if run.cost.total is not None
    ]
    if not priced:
        return []
    note = "blue: no other run is both cheaper and better"
    if missing := len(comparison.runs) - len(priced):
        note += f"; {missing} without a known cost left out"
    title = "Macro-F1 against cost"
    return [Figure(title, charts.cost_front(title, priced), note)]


def _source_bars(best: list[RunFindings], source: str) -> list[Bar]:
    return [
        _bar(run.name, run.estimates_by_source[source].macro_f1, run is best[0]) for run in best
    ]


def _with_probabilities(comparison: Comparison) -> list[RunFindings]:
    known = (run for run in by_score(comparison) if run.scores.ranking is not None)
    return list(itertools.islice(known, MOST_PANELS))


def _curves(comparison: Comparison, kind: str) -> list[Figure]:
    axes = {"roc": ("false positive rate", "true positive rate")}
    title = {"roc": "ROC curves", "precision_recall": "Precision-recall curves"}[kind]
    figures = []
    for run in _with_probabilities(comparison):
        ranking = run.scores.ranking
        curves = {name: getattr(own, kind) for name, own in ranking.per_class.items()}  # type: ignore[union-attr]
        curves = {name: points for name, points in curves.items() if points}
        value = ranking.auc if kind == "roc" else ranking.average_precision  # type: ignore[union-attr]
        if not curves or value is None:
            continue
        drawing = charts.class_curves(
            f"{title} of {run.name}",
            axes.get(kind, ("recall", "precision")),
            curves,
            diagonal=kind == "roc",
        )
        note = f"{'AUC' if kind == 'roc' else 'average precision'} {value:.4f}"
        figures.append(Figure(run.name, drawing, note))
    return figures


def _cascade_curve(cascade: JudgedCascade | None) -> list[Figure]:
    if cascade is None or not cascade.curve:
        return []
    found, marks = cascade.scores.macro_f1, []
    if found is not None:
        name = f"{found.value:.4f} at threshold {shown_threshold(cascade.threshold)}"
        marks = [Mark(name, cascade.share, found.value)]
    drawing = charts.cascade_curve(
        "Macro-F1 against the share of texts sent to the LLM",
        cascade.curve,
        marks,
        cascade.llm_cost,
    )
    first, last = cascade.scores.members
    note = f"left: {first} alone; right: {last} alone; band: 95 % intervals"
    return [Figure("Macro-F1 of the cascade", drawing, note)]


def shown_threshold(value: float) -> str:
    """Return a threshold as text."""
    return "above 1" if value > 1 else f"{value:.3g}"


def save_plots(
    comparison: Comparison, folder: str | Path, cascade: JudgedCascade | None = None
) -> list[Path]:
    """Draw each figure of a comparison as PNG and as SVG; return the files."""
    check_plotting()
    return [
        save_drawing(sheet(figures), Path(folder) / f"{name}.{form}", _PAPER)
        for name, figures in comparison_figures(comparison, cascade).items()
        for form in _FORMATS
    ]


def save_run_plots(run: Path) -> list[Path]:
    """Draw a run's log and scores into its folder ``plots``; return the files.

    Raises:
        InputError: matplotlib is not installed, or a file of the run is damaged.
        SentikitError: a file cannot be written.
    """
    check_plotting()
    saved = []
    records = read_log(run / LOG) if (run / LOG).is_file() else []
    if any(record["kind"] == "epoch" for record in records):
        curves = charts.learning_curves(records)
        saved.append(save_drawing(curves, run / _PLOTS / _LEARNING_CURVES, 1440))
    if (run / METRICS).is_file():
        metrics = read_json(run / METRICS)
        figure = confusion_figure(metrics["overall"], f"Predictions on {metrics['split']}")
        saved.append(save_drawing(sheet([figure]), run / _PLOTS / _CONFUSION, 900))
    return saved


def confusion_figure(scores: Mapping[str, Any], title: str) -> Figure:
    """Return the confusion matrix of ``overall`` or of a source of ``metrics.json``."""
    note = (
        f"macro-F1 {scores['macro_f1']:.4f}   accuracy {scores['accuracy']:.4f}   "
        f"n = {scores['examples']:,}"
    )
    return Figure(title, charts.confusion(title, scores["confusion"]), note)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the records of ``log.jsonl``.

    Raises:
        InputError: a line is not a JSON object.
    """
    with disk_errors(path):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = []
    # The last element is empty, or half a line if the run was killed.
    for number, written in enumerate(lines[:-1], 1):
        try:
            records.append(json.loads(written))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not valid JSON ({error.msg}).") from error
    return records
