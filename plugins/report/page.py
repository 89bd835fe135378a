"""The report of a comparison: one self-contained HTML page."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentikit import Comparison, __version__
from sentikit.extension import AlignedRuns, BreakEven, JudgedCascade, usd_text

from . import figures, tables
from .drawing import DARK, LIGHT, Palette, style_sheet, to_svg

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

#: Most texts of a page; with more it opens slowly on a phone.
MOST_TEXTS = 3000
#: A text longer than this is cut.
MOST_CHARACTERS = 2000
_MOST_CHARACTERS_IN_ALL = 4_000_000
_MOST_BREAK_EVENS = 5


def report_page(comparison: Comparison, cascade: JudgedCascade | None = None) -> str:
    """Return a report as HTML."""
    pages = environment()
    # The content security policy contains the digests of style and script.
    style = pages.get_template("report.css").render(
        light=palette_variables(LIGHT), dark=palette_variables(DARK), charts=style_sheet()
    )
    script = _source(pages, "report.js")
    found = find_disagreements(comparison.aligned)
    drawn = figures.comparison_figures(comparison, cascade)
    runs = figures.by_score(comparison)
    now = datetime.datetime.now(datetime.UTC)
    few_classes = bool(tables.class_columns(comparison.classes))
    return pages.get_template("report.html").render(
        comparison=comparison,
        cascade=cascade,
        title=f"{len(runs)} runs compared" if len(runs) > 1 else runs[0].name,
        parts=_parts(comparison, drawn),
        runs=runs,
        run_names=[run.name for run in runs],
        run_heads=_run_heads(comparison, "roc" in drawn, few_classes),
        few=few_classes,
        figures=drawn,
        outcomes=_outcomes(comparison.classes),
        break_evens=_break_evens(comparison),
        most_panels=figures.MOST_PANELS,
        most_differences=figures.MOST_DIFFERENCES,
        found=found,
        data=to_script(found.data),
        policy=page_policy(style, script),
        style=_markup(style),
        script=_markup(script),
        made=f"Made by sentikit {__version__}, {now:%Y-%m-%d %H:%M} UTC.",
    )


def _parts(comparison: Comparison, drawn: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the key and heading of each section with content."""
    parts = {
        "runs": ("Runs", True),
        "intervals": ("Confidence intervals", True),
        "differences": ("Differences", comparison.differences),
        "partners": ("LLM and encoder", any(run.partnership for run in comparison.runs)),
        "cost": ("Cost", True),
        "cascade": ("Cascade", "cascade_curve" in drawn),
        "confusion": ("Confusion", True),
        "sources": ("By source", "sources" in drawn),
        "calibration": ("Calibration", "reliability" in drawn),
        "ranking": ("ROC and precision-recall", "roc" in drawn),
        "texts": ("Disagreements", True),
        "notes": ("Notes", True),
    }
    return [(key, heading) for key, (heading, shown) in parts.items() if shown]


def _run_heads(comparison: Comparison, ranked: bool, few_classes: bool) -> list[str]:
    return [
        *("run", "macro-F1", f"{comparison.percent} interval", "accuracy"),
        *(("AUC", "average precision") if ranked else ()),
        *(metric.title for metric in comparison.metrics),
        *((f"F1 {name}" for name in comparison.classes) if few_classes else ()),
        *("invalid", "training", "1,000 texts", "per F1 point"),
    ]


def _outcomes(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Return the filter's values for the script, with their names on the page."""
    outcomes = [("right", "right"), ("wrong", "wrong"), ("alone", "alone right")]
    return [*outcomes, *((f"={name}", f"answered {name}") for name in classes), ("=", "invalid")]


def environment() -> Environment:
    """Return the templates of this package, with autoescaping."""
    import jinja2

    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("sentikit.plugins.report", "assets"),
        autoescape=jinja2.select_autoescape(["html"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "score": lambda value: "—" if value is None else f"{value:.4f}",
        "share": lambda value: "—" if value is None else f"{value:.1%}",
        "count": lambda value: "—" if value is None else f"{value:,}",
        "usd": lambda amount: "—" if amount is None else f"${usd_text(amount)}",
        "p": lambda value: "< 0.0001" if value < 0.0001 else f"{value:.4f}",
        "signed": tables.signed,
        "interval": tables.interval,
        "pairs": lambda names: [(name, name) for name in names],
        "svg": to_svg,
        "threshold": figures.shown_threshold,
    }
    pages.filters |= filters
    return pages


def _source(pages: Environment, name: str) -> str:
    assert pages.loader is not None
    return pages.loader.get_source(pages, name)[0]


def _markup(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - the package's own style, script or JSON without any <


def palette_variables(palette: Palette) -> str:
    """Return a palette as CSS custom properties."""
    return " ".join(f"--{name}: {color};" for name, color in palette.items())


def page_policy(style: str, script: str | None = None) -> str:
    """Return a content security policy: no network access, no script but the page's own."""
    allowed = "'none'" if script is None else f"'{_digest(script)}'"
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _break_evens(comparison: Comparison) -> list[BreakEven]:
    """Return the points where runs on the front overtake one another."""
    return [
        found
        for found in comparison.break_even
        if comparison.run(found.cheaper_before).on_front
        and comparison.run(found.cheaper_after).on_front
    ][:_MOST_BREAK_EVENS]


@dataclass(frozen=True)
class Disagreements:
    """Texts on which runs disagree.

    Attributes:
        total: how many there are.
        rows: the embedded ones, (rows,).
        data: for the page, see `to_script`.
    """

    total: int
    rows: NDArray[np.int64]
    data: dict[str, Any]

    @property
    def note(self) -> str:
        """A sentence with the number of disagreements, and of those on the page."""
        kept = len(self.rows)
        if kept == self.total:
            return f"{self.total:,} texts on which the runs do not all give the same label."
        return (
            f"{kept:,} of the {self.total:,} texts on which the runs do not all give the same "
            "label, taken evenly from first to last."
        )


def find_disagreements(aligned: AlignedRuns, most: int = MOST_TEXTS) -> Disagreements:
    """Find the rows on which runs disagree; a single run is compared with the gold labels."""
    labels = [run.answers.labels for run in aligned.runs]
    against = labels if len(labels) > 1 else [*labels, aligned.gold]
    answers = np.stack(against, 1)
    found = np.flatnonzero((answers != answers[:, :1]).any(1))
    rows = _evenly(found, most)
    texts = _shown(aligned, rows)
    kept = _within(texts)
    if kept < len(rows):
        rows = _evenly(found, kept)
        texts = _shown(aligned, rows)
    return Disagreements(len(found), rows, _data(aligned, rows, texts))


def to_script(data: dict[str, Any]) -> Markup:
    """Return data as JSON that is safe inside a ``<script>``, without any ``<``."""
    written = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return _markup(written)


def _data(aligned: AlignedRuns, rows: NDArray[np.int64], texts: Sequence[str]) -> dict[str, Any]:
    """Return names once, and rows that refer to them: [text, gold, source, [labels]]."""
    labels = np.stack([run.answers.labels[rows] for run in aligned.runs], 1)
    columns = (
        texts,
        aligned.gold[rows].tolist(),
        aligned.source_of[rows].tolist(),
        labels.tolist(),
    )
    return {
        "classes": list(aligned.classes),
        "sources": list(aligned.sources),
        "runs": [run.name for run in aligned.runs],
        "rows": [list(row) for row in zip(*columns, strict=True)],
    }


def _evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, max(1, most)).astype(np.int64)]


def _shown(aligned: AlignedRuns, rows: NDArray[np.int64]) -> list[str]:
    """Return the texts, shortened if they are long; without texts, the ids."""
    chosen = aligned.examples.select(rows)
    return [_cut(text) or f"id {name}" for text, name in zip(chosen.texts, chosen.ids, strict=True)]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " […]"


def _within(texts: Sequence[str]) -> int:
    """Return how many texts of this length fit on the page."""
    characters = sum(map(len, texts))
    if characters <= _MOST_CHARACTERS_IN_ALL:
        return len(texts)
    return int(len(texts) * _MOST_CHARACTERS_IN_ALL / characters)
