"""Tables of a comparison: sections of text cells, and records of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sentikit import Comparison
from sentikit.extension import Difference, RunFindings, Section, usd_text

#: With more differences, only those with the best run are shown.
MOST_DIFFERENCES = 30
#: With more classes, their scores have a separate table with a row each.
MOST_CLASS_COLUMNS = 6


def sections(comparison: Comparison) -> list[Section]:
    """Return the tables that are not empty."""
    built = [
        _scores(comparison),
        _classes(comparison),
        _ranking(comparison),
        _metrics(comparison),
        _sources(comparison),
        _differences(comparison),
        _metric_differences(comparison),
        _partners(comparison),
        _money(comparison),
        _break_even(comparison),
        _groups(comparison),
        _sample_sizes(comparison),
    ]
    return [section for section in built if section.rows]


def sentences(comparison: Comparison) -> list[str]:
    """Return the sentences below the tables, the advice last."""
    found = list(comparison.notes)
    if comparison.cochran_q:
        q = comparison.cochran_q
        found.append(
            f"Cochran's Q = {q.statistic:.1f} with {q.degrees_of_freedom} degrees of freedom, "
            f"p = {p_value(q.p)}: "
            + ("the runs are not equally accurate." if q.p < 0.05 else "accuracies may be equal.")
        )
    found.append(comparison.advice.sentence)
    return found


def _scores(comparison: Comparison) -> Section:
    percent = comparison.percent
    classes = class_columns(comparison.classes)
    rows = []
    for run in comparison.runs:
        f1, accuracy = run.estimates.macro_f1, run.estimates.accuracy
        calibration = run.scores.calibration
        rows.append(
            (
                run.name,
                score(f1.value),
                interval(f1.percentile),
                interval(f1.bca),
                score(accuracy.value),
                interval(accuracy.percentile),
                *(score(run.scores.per_class[name].f1) for name in classes),
                f"{run.scores.invalid:,}",
                score(calibration.ece) if calibration else "",
            )
        )
    data = f" on {comparison.dataset}" if comparison.dataset else ""
    return Section(
        f"scores of {comparison.examples:,} texts{data}",
        (
            "run",
            "macro-F1",
            f"{percent} percentile",
            f"{percent} BCa",
            "accuracy",
            f"{percent} of accuracy",
            *(f"F1 {name}" for name in classes),
            "invalid",
            "ECE",
        ),
        tuple(rows),
    )


def class_columns(classes: Sequence[str]) -> Sequence[str]:
    """Return the classes with a column each: none if there are many."""
    return classes if len(classes) <= MOST_CLASS_COLUMNS else ()


def _classes(comparison: Comparison) -> Section:
    """Return F1 by class with a row each, if columns would be too many."""
    runs = [run.scores.per_class for run in comparison.runs]
    rows = [
        (name, f"{runs[0][name].support:,}", *(score(own[name].f1) for own in runs))
        for name in comparison.classes
        if not class_columns(comparison.classes)
    ]
    heads = ("class", "texts", *(run.name for run in comparison.runs))
    return Section("F1 by class", heads, tuple(rows), ("class",))


def _ranking(comparison: Comparison) -> Section:
    columns = class_columns(comparison.classes)
    rows = [
        (
            run.name,
            optional(ranking.auc),
            optional(ranking.average_precision),
            *(optional(ranking.per_class[name].auc) for name in columns),
        )
        for run in comparison.runs
        if (ranking := run.scores.ranking) is not None
    ]
    classes = (f"AUC {name}" for name in columns)
    title = "ranking by probability, each class against all others"
    return Section(title, ("run", "AUC", "average precision", *classes), tuple(rows))


def _metrics(comparison: Comparison) -> Section:
    names = {metric.name: metric.title for metric in comparison.metrics}
    rows = [
        (run.name, *(_with_interval(run.estimates.metrics[name]) for name in names))
        for run in comparison.runs
        if names
    ]
    return Section("other metrics", ("run", *names.values()), tuple(rows))


def _metric_differences(comparison: Comparison) -> Section:
    rows = [
        (
            found.first,
            found.second,
            metric.title,
            signed(own.difference),
            interval(own.difference.percentile, sign=True),
            p_value(own.permutation.p),
            p_value(own.permutation.holm),
        )
        for metric in comparison.metrics
        for found in _shown_differences(comparison)
        for own in (found.metrics[metric.name],)
    ]
    columns = ("first", "second", "metric", "difference", f"{comparison.percent} percentile")
    heads = (*columns, "permutation", "Holm")
    return Section("differences in other metrics", heads, tuple(rows), columns[:3])


def _with_interval(found: Any) -> str:
    return f"{score(found.value)} {interval(found.percentile)}"


def _sources(comparison: Comparison) -> Section:
    names = tuple(comparison.sources) if len(comparison.sources) > 1 else ()
    rows = [
        (run.name, *(_source_cell(run, name) for name in names)) for run in comparison.runs if names
    ]
    heads = tuple(f"{name} ({comparison.sources[name]:,})" for name in names)
    return Section("macro-F1 and accuracy by source", ("run", *heads), tuple(rows))


def _source_cell(run: RunFindings, source: str) -> str:
    found = run.estimates_by_source[source]
    return (
        f"{score(found.macro_f1.value)} {interval(found.macro_f1.percentile)} "
        f"{score(found.accuracy.value)}"
    )


def _shown_differences(comparison: Comparison) -> tuple[Difference, ...]:
    """Return all differences, or those with the best run if there are many and no baseline."""
    shown = comparison.differences
    if len(shown) <= MOST_DIFFERENCES or comparison.baseline is not None:
        return shown
    best = _best(comparison).name
    return tuple(d for d in shown if best in (d.first, d.second))


def _differences(comparison: Comparison) -> Section:
    shown, title = (
        _shown_differences(comparison),
        f"differences ({comparison.resamples:,} resamples)",
    )
    if len(shown) < len(comparison.differences):
        best = _best(comparison).name
        title += f" with {best}; all {len(comparison.differences):,} in --json and CSV"
    return Section(
        title,
        (
            "first",
            "second",
            "macro-F1",
            f"{comparison.percent} percentile",
            "accuracy",
            "first/second alone right",
            "McNemar",
            "permutation",
            "Holm",
            "BH",
            "kappa",
        ),
        tuple(_difference_row(found) for found in shown),
        ("first", "second"),
    )


def _difference_row(found: Difference) -> tuple[str, ...]:
    (_, first), (second, _) = found.contingency
    return (
        found.first,
        found.second,
        signed(found.macro_f1),
        interval(found.macro_f1.percentile, sign=True),
        signed(found.accuracy),
        f"{first:,}/{second:,}",
        p_value(found.mcnemar.p),
        p_value(found.permutation.p),
        p_value(found.permutation.holm),
        p_value(found.permutation.benjamini_hochberg),
        score(found.kappa),
    )


def _partners(comparison: Comparison) -> Section:
    rows = []
    for run in comparison.runs:
        if run.partnership is None:
            continue
        own = run.partnership
        changed = "; ".join(f"{c.right:,}/{c.wrong:,} against {c.against}" for c in own.changed)
        follows = (own.follow_rate_right, own.follow_rate_wrong, own.discrimination_gap)
        rows.append((run.name, score(own.follow_rate), *map(optional, follows), changed))
    return Section(
        "how LLMs use their encoder",
        (
            "run",
            "follow rate",
            "when right",
            "when wrong",
            "discrimination gap",
            "changed right/wrong",
        ),
        tuple(rows),
        ("run", "changed right/wrong"),
    )


def _money(comparison: Comparison) -> Section:
    known = [
        run
        for run in comparison.runs
        if run.cost.training is not None or run.cost.per_1000 is not None
    ]
    rows = tuple(
        (
            run.name,
            _usd(run.cost.training),
            _usd(run.cost.per_1000),
            _usd(run.cost.total),
            _usd(run.cost.per_f1_point),
            _usd(run.cost.per_f1_point_with_inference),
            {True: "yes", False: "", None: "?"}[run.on_front],
            run.cost.training_basis,
        )
        for run in (comparison.runs if known else ())
    )
    return Section(
        "cost in USD",
        (
            "run",
            "training",
            "1,000 answers",
            "these texts",
            "an F1 point",
            "with inference",
            "on the front",
            "training is",
        ),
        rows,
        ("run", "training is"),
    )


def _break_even(comparison: Comparison) -> Section:
    rows = tuple(
        (found.cheaper_before, found.cheaper_after, f"{found.texts:,.0f}")
        for found in comparison.break_even
    )
    columns = ("cheaper up to", "cheaper from there", "texts")
    return Section("where one run overtakes another", columns, rows, columns[:2])


def _groups(comparison: Comparison) -> Section:
    rows = tuple(
        (
            group.name,
            str(len(group.runs)),
            f"{score(group.macro_f1.mean)} ± {score(group.macro_f1.sd)}",
            f"{score(group.accuracy.mean)} ± {score(group.accuracy.sd)}",
        )
        for group in comparison.groups
    )
    columns = ("set-up", "runs", "macro-F1", "accuracy")
    return Section("seeds and rounds, mean ± standard deviation", columns, rows, ("set-up",))


def _sample_sizes(comparison: Comparison) -> Section:
    sizes = comparison.sample_sizes
    rows = tuple(
        (own.first, own.second, f"{own.macro_f1:,}", f"{own.accuracy:,}")
        for own in (sizes.pairs if sizes else ())
    )
    title = ""
    if sizes:
        title = f"test texts that show a difference of {sizes.delta:g} with {sizes.power:.0%} power"
    columns = ("first", "second", "in macro-F1", "in accuracy")
    return Section(title, columns, rows, ("first", "second"))


def score(value: float) -> str:
    """Format a fraction."""
    return f"{value:.4f}"


def optional(value: float | None) -> str:
    """Format a fraction that may be unknown."""
    return "" if value is None else score(value)


def signed(estimate: Any) -> str:
    """Format a difference."""
    return signed_value(estimate.value)


def interval(bounds: Any, sign: bool = False) -> str:
    """Format an interval."""
    write = signed_value if sign else score
    return f"[{write(bounds.low)}, {write(bounds.high)}]"


def signed_value(value: float) -> str:
    """Format a difference with its sign."""
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{round(value, 4) + 0.0:+.4f}"


def p_value(p: float) -> str:
    """Format a p-value, never as 0."""
    if p < 1e-300:
        return "<1e-300"
    return f"{p:.4f}" if p >= 0.001 else f"{p:.1e}"


def _usd(amount: float | None) -> str:
    return "?" if amount is None else usd_text(amount)


def _best(comparison: Comparison) -> RunFindings:
    return min(comparison.runs, key=lambda run: (-run.scores.macro_f1, run.name))


#: The value of the column `source` for all examples together.
ALL = "all"


def _run_rows(run: RunFindings) -> Iterator[dict[str, Any]]:
    yield _row(run, ALL, run.scores, run.estimates) | {
        "training_usd": run.cost.training,
        "usd_per_1000": run.cost.per_1000,
        "total_usd": run.cost.total,
        "usd_per_f1_point": run.cost.per_f1_point,
        "usd_per_f1_point_with_inference": run.cost.per_f1_point_with_inference,
    }
    for name, scores in run.by_source.items():
        yield _row(run, name, scores, run.estimates_by_source[name])


def _row(run: RunFindings, source: str, scores: Any, estimates: Any) -> dict[str, Any]:
    row = {"run": run.name, "source": source, "examples": scores.examples}
    row |= {"invalid": scores.invalid}
    row |= _estimate("macro_f1", estimates.macro_f1) | _estimate("accuracy", estimates.accuracy)
    for name, own in scores.per_class.items():
        row |= {
            f"precision {name}": own.precision,
            f"recall {name}": own.recall,
            f"f1 {name}": own.f1,
            f"support {name}": own.support,
        }
    row |= {"ece": scores.calibration.ece if scores.calibration else None}
    ranking = scores.ranking
    row |= {"auc": ranking.auc if ranking else None}
    row |= {"average_precision": ranking.average_precision if ranking else None}
    for name, estimate in estimates.metrics.items():
        row |= _estimate(name, estimate)
    return row


def _difference(found: Difference) -> dict[str, Any]:
    (both, first), (second, neither) = found.contingency
    row: dict[str, Any] = {"first": found.first, "second": found.second}
    row |= _estimate("macro_f1", found.macro_f1) | _estimate("accuracy", found.accuracy)
    row |= {"both_right": both, "first_alone_right": first}
    row |= {"second_alone_right": second, "both_wrong": neither}
    row |= _test("mcnemar", found.mcnemar) | _test("permutation", found.permutation)
    row |= _test("bootstrap", found.bootstrap)
    row |= {"kappa": found.kappa, "agreement": found.agreement}
    for name, own in found.metrics.items():
        row |= _estimate(name, own.difference) | _test(f"{name}_permutation", own.permutation)
    return row


def _estimate(name: str, estimate: Any) -> dict[str, float]:
    return {
        name: estimate.value,
        f"{name}_low": estimate.percentile.low,
        f"{name}_high": estimate.percentile.high,
        f"{name}_bca_low": estimate.bca.low,
        f"{name}_bca_high": estimate.bca.high,
    }


def _test(name: str, test: Any) -> dict[str, float]:
    return {
        f"{name}_p": test.p,
        f"{name}_holm": test.holm,
        f"{name}_bh": test.benjamini_hochberg,
    }


def records(comparison: Comparison, kind: str) -> list[dict[str, Any]]:
    """Return a record for each run and source, or for each difference if `kind` is pairs."""
    if kind == "pairs":
        return [_difference(found) for found in comparison.differences]
    return [row for run in comparison.runs for row in _run_rows(run)]
