"""The sections of a report, each a pure function of what a comparison found."""

from __future__ import annotations

from collections.abc import Sequence

from sentikit.amounts import usd_text
from sentikit.comparison.results import Comparison, Difference, RunFindings
from sentikit.comparison.tables import interval as written_interval
from sentikit.comparison.tables import signed
from sentikit.ensembles.judged import JudgedCascade
from sentikit.reports import charts
from sentikit.reports.disagreements import Disagreements
from sentikit.reports.markup import Markup, element, joined
from sentikit.reports.shown import (
    MOST_DIFFERENCES,
    MOST_PANELS,
    by_score,
    calibrated_runs,
    curve_marks,
    difference_bars,
    priced_runs,
    score_bars,
    shown_threshold,
    source_bars,
)

_MOST_BREAK_EVENS = 5


def runs_table(comparison: Comparison) -> Markup:
    """Return the table of all runs."""
    classes = comparison.classes
    interval = f"{comparison.percent} interval"
    heads = ["run", "macro-F1", interval, "accuracy", *(f"F1 {name}" for name in classes)]
    heads += ["invalid", "training", "1,000 texts", "per F1 point"]
    rows = [_run_row(run, comparison) for run in by_score(comparison)]
    return _table(heads, rows, "Scores and costs of all runs")


def _run_row(run: RunFindings, comparison: Comparison) -> Markup:
    scores, cost, marks = run.scores, run.cost, []
    if run.name == comparison.advice.run:
        marks.append(element("span", "advised", class_="badge"))
    if run.name == comparison.baseline:
        marks.append(element("span", "baseline", class_="badge quiet"))
    interval = run.estimates.macro_f1.percentile
    cells = [
        element("strong", f"{scores.macro_f1:.4f}"),
        f"[{interval.low:.4f}, {interval.high:.4f}]",
        f"{scores.accuracy:.4f}",
        *(f"{scores.per_class[name].f1:.4f}" for name in comparison.classes),
        f"{scores.invalid:,}" if scores.invalid else "—",
        element("span", _usd(cost.training), title=cost.training_basis),
        element("span", _usd(cost.per_1000), title=cost.per_1000_basis),
        _usd(cost.per_f1_point),
    ]
    name = element("th", run.name, *marks, scope="row")
    return element("tr", name, *(element("td", cell) for cell in cells))


def differences_table(comparison: Comparison) -> Markup:
    """Return the table of differences between runs, folded where it is long."""
    interval = f"{comparison.percent} interval"
    heads = ["", "macro-F1 difference", interval, "McNemar p", "permutation p", "κ", "agree"]
    rows = [_difference_row(found) for found in comparison.differences]
    table = _table(heads, rows, "Differences between runs")
    note = element(
        "p",
        "The second run less the first. p-values are adjusted by Holm over all "
        f"{len(rows):,} differences; resampled ones come from {comparison.resamples:,} resamples.",
        class_="caption",
    )
    if len(rows) <= MOST_DIFFERENCES:
        return joined(table, note)
    summary = element("summary", f"Show all {len(rows):,} differences")
    return element("details", summary, table, note)


def _difference_row(found: Difference) -> Markup:
    interval = found.macro_f1.percentile
    cells = [
        element("strong", signed(found.macro_f1)),
        written_interval(interval, sign=True),
        _p(found.mcnemar.holm),
        _p(found.permutation.holm),
        f"{found.kappa:.3f}",
        f"{found.agreement:.1%}",
    ]
    name = element("th", found.first, element("span", " → ", class_="muted"), found.second)
    return element("tr", name, *(element("td", cell) for cell in cells))


def forest_plots(comparison: Comparison) -> Markup:
    """Return intervals of all scores, and of the differences to the baseline or between few."""
    scores = charts.forest("Macro-F1 of all runs", score_bars(comparison))
    figures = [_figure(scores, "Macro-F1")]
    if differences := difference_bars(comparison):
        caption = "Differences of macro-F1"
        if comparison.baseline:
            caption += f" to {comparison.baseline}"
        drawn = charts.forest(caption, differences, zero=True)
        figures.append(_figure(drawn, f"{caption}; coloured where the interval is clear of 0"))
    return _panels(figures)


def cost_front(comparison: Comparison) -> Markup:
    """Return macro-F1 against cost, or what is missing for it."""
    priced = priced_runs(comparison)
    missing = len(comparison.runs) - len(priced)
    if not priced:
        return element("p", _unknown_costs(comparison))
    caption = "Filled in colour: no other run is both cheaper and better."
    if missing:
        caption += f" {missing} of the runs have no known cost and are left out."
    drawn = charts.cost_front("Macro-F1 against cost", priced)
    items = [
        element(
            "li",
            f"Up to {found.texts:,.0f} texts {found.cheaper_before} is cheaper than "
            f"{found.cheaper_after}, beyond that it is the other way round.",
        )
        for found in comparison.break_even
        if comparison.run(found.cheaper_before).on_front
        and comparison.run(found.cheaper_after).on_front
    ][:_MOST_BREAK_EVENS]
    return _panels([_figure(drawn, caption), element("ul", *items) if items else ""])


def _unknown_costs(comparison: Comparison) -> str:
    if all(run.cost.per_1000 is None for run in comparison.runs):
        return (
            "What the runs cost is not known, so there is no front to draw. --training-cost and "
            "--inference-cost of sentikit compare say it."
        )
    return (
        "What answers cost is known, but of no run what its training cost as well, so there is no "
        "front to draw. --training-cost of sentikit compare says it."
    )


def partnerships(comparison: Comparison) -> Markup:
    """Return how LLMs use the encoder's opinion that they were shown; nothing where none was."""
    heads = ["", "follows", "where it is right", "where it is wrong", "gap", "changed to right"]
    heads.append("changed to wrong")
    rows = []
    for run in comparison.runs:
        own = run.partnership
        if own is None:
            continue
        follows = [own.follow_rate, own.follow_rate_right, own.follow_rate_wrong]
        cells = [*follows, own.discrimination_gap]
        for changed in own.changed or (None,):
            name = element("th", run.name)
            if changed:
                against = element("span", f" against {changed.against}", class_="muted")
                name = element("th", run.name, against)
            counts = (changed.right, changed.wrong) if changed else (None, None)
            shown = [*map(_share, cells), *("—" if n is None else f"{n:,}" for n in counts)]
            rows.append(element("tr", name, *(element("td", cell) for cell in shown)))
    note = "How often the LLM answers the label that the encoder proposed, and what that changed."
    table = _table(heads, rows, "How LLMs use their encoder")
    return joined(table, element("p", note, class_="caption")) if rows else Markup()


def _share(value: float | None) -> str:
    return "—" if value is None else f"{value:.1%}"


def confusion_matrices(comparison: Comparison) -> Markup:
    """Return a confusion matrix for each of the best runs."""
    figures = [
        _figure(charts.confusion(f"Confusion matrix of {run.name}", run.scores.confusion), run.name)
        for run in by_score(comparison)[:MOST_PANELS]
    ]
    return joined(_panels(figures, "small"), _left_out(comparison))


def sources(comparison: Comparison) -> Markup:
    """Return the scores by source, a panel each."""
    figures = [
        _figure(
            charts.source_bars(f"Macro-F1 on {source}", source_bars(comparison, source)),
            f"{source}, {examples:,} texts",
        )
        for source, examples in comparison.sources.items()
    ]
    return joined(_panels(figures), _left_out(comparison))


def reliability_diagrams(comparison: Comparison) -> Markup:
    """Return how confidence and accuracy agree, for runs with probabilities."""
    figures = [
        _figure(
            charts.reliability(f"Reliability of {name}", known.bins), f"{name}, ECE {known.ece:.3f}"
        )
        for name, known in calibrated_runs(comparison).items()
    ]
    return _panels(figures, "small") if figures else Markup()


def cascade_curve(cascade: JudgedCascade) -> Markup:
    """Return the curve of a cascade with the threshold in use."""
    drawn = charts.cascade_curve(
        "Macro-F1 against the share of texts sent to the LLM",
        cascade.curve,
        curve_marks(cascade),
        cascade.llm_cost,
    )
    names = list(cascade.worth.members)
    caption = f"Left: {names[0]} alone. Right: {names[1]} alone. Band: 95 % intervals."
    facts = [
        element(
            "p",
            f"The encoder answers where its top probability is at least "
            f"{shown_threshold(cascade.threshold)}; the LLM answers the other ",
            element("strong", f"{cascade.share:.1%}"),
            f" of {cascade.rows:,} texts. {cascade.explanation}",
        ),
        element("ul", *(_gain(name, cascade) for name in names)),
    ]
    if cascade.best is not None:
        best = cascade.best
        facts.append(
            element(
                "p",
                f"Best in hindsight: {best.macro_f1:.4f} at {shown_threshold(best.threshold)} with "
                f"{best.share:.1%} of the calls. New texts will do a little worse.",
                class_="caption",
            )
        )
    facts += [element("p", note, class_="caption") for note in cascade.notes]
    return _panels([_figure(drawn, caption), element("div", *facts)])


def _gain(name: str, cascade: JudgedCascade) -> Markup:
    gain = cascade.worth.gains[name]
    return element(
        "li",
        element("strong", signed(gain)),
        f" {written_interval(gain.percentile, sign=True)} against {name}",
    )


def browser(comparison: Comparison, found: Disagreements) -> Markup:
    """Return the controls of the texts' browser; the page's script fills it."""
    aligned = comparison.aligned
    outcomes = [("right", "right"), ("wrong", "wrong"), ("alone", "the only one that is right")]
    outcomes += [(f"={name}", f"answered {name}") for name in comparison.classes]
    outcomes += [("=", "invalid")]
    controls = element(
        "form",
        _select("source", "Source", [(name, name) for name in aligned.sources]),
        _select("label", "Gold label", [(name, name) for name in comparison.classes]),
        _select("run", "Run", [(run.name, run.name) for run in aligned.runs]),
        _select("outcome", "is", outcomes),
        element("label", "Text contains", element("input", type="search", name="text")),
        id="filters",
        class_="controls",
    )
    return joined(
        element("p", found.note),
        controls,
        element("p", id="count", class_="caption", aria_live="polite"),
        element("ol", id="found"),
        element("button", "Show more", type="button", id="more", hidden=""),
        element("noscript", element("p", "The texts are shown where JavaScript is switched on.")),
    )


def _select(name: str, title: str, options: Sequence[tuple[str, str]]) -> Markup:
    every = element("option", "any", value="")
    choices = [element("option", shown, value=value) for value, shown in options]
    return element("label", title, element("select", every, *choices, name=name))


def notes(comparison: Comparison) -> Markup:
    """Return what a reader should know."""
    lines = list(comparison.notes)
    lines.append(
        f"Intervals: {comparison.percent} percentile bootstrap over the texts, "
        f"{comparison.resamples:,} resamples, seed {comparison.seed}."
    )
    if comparison.cochran_q is not None:
        q = comparison.cochran_q
        lines.append(
            f"Cochran's Q over all runs: {q.statistic:.1f} with {q.degrees_of_freedom} degrees of "
            f"freedom, p {_p(q.p)}."
        )
    for group in comparison.groups:
        lines.append(
            f"{group.name}: macro-F1 {group.macro_f1.mean:.4f} ± {group.macro_f1.sd:.4f} over "
            f"{len(group.runs)} runs ({', '.join(group.runs)})."
        )
    return element("ul", *(element("li", line) for line in lines))


def _table(heads: Sequence[str], rows: Sequence[Markup], title: str) -> Markup:
    head = element("tr", *(element("th", name, scope="col") for name in heads))
    table = element("table", element("thead", head), element("tbody", *rows))
    return element("div", table, class_="scroll", role="region", aria_label=title, tabindex="0")


def _panels(figures: Sequence[object], size: str = "") -> Markup:
    return element("div", *figures, class_=f"panels {size}".strip())


def _figure(drawn: Markup, caption: str) -> Markup:
    return element("figure", element("figcaption", caption), drawn)


def _left_out(comparison: Comparison) -> Markup:
    if len(comparison.runs) <= MOST_PANELS:
        return Markup()
    shown = f"The {MOST_PANELS} best of {len(comparison.runs)} runs."
    return element("p", shown, class_="caption")


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _usd(amount: float | None) -> str:
    return "—" if amount is None else f"${usd_text(amount)}"
