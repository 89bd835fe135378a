"""Writes a comparison as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from string import Template

from sentikit import __version__
from sentikit.comparison.results import Comparison
from sentikit.ensembles.judged import JudgedCascade
from sentikit.files import write_text
from sentikit.reports import sections
from sentikit.reports.disagreements import find_disagreements, to_script
from sentikit.reports.markup import Markup, element, escaped, joined
from sentikit.runs.manifest import now


def write_report(comparison: Comparison, path: Path, cascade: JudgedCascade | None = None) -> None:
    """Write a report.

    Args:
        comparison: what it reports.
        path: of the file.
        cascade: a cascade of two of the runs, to draw its curve.

    Raises:
        InputError: the file may not be written there.
        SentikitError: the disk is full or fails.
    """
    write_text(path, report_page(comparison, cascade))


def report_page(comparison: Comparison, cascade: JudgedCascade | None = None) -> str:
    """Return a report as HTML."""
    style, script = _asset("report.css"), _asset("report.js")
    found = find_disagreements(comparison.aligned)
    blocks = _blocks(comparison, cascade)
    blocks.append(("texts", "Where runs disagree", sections.browser(comparison, found)))
    blocks.append(("notes", "Notes", sections.notes(comparison)))
    return Template(_asset("report.html")).substitute(
        policy=escaped(_policy(style, script)),
        title=escaped(_title(comparison)),
        facts=escaped(_facts(comparison)),
        advice=escaped(comparison.advice.sentence),
        navigation=joined(*(element("a", name, href=f"#{key}") for key, name, _ in blocks)),
        sections=joined(*(_section(*block) for block in blocks)),
        made=escaped(f"Made by sentikit {__version__}, {now()}."),
        data=to_script(found.data),
        style=style,
        script=script,
    )


def _blocks(comparison: Comparison, cascade: JudgedCascade | None) -> list[tuple[str, str, Markup]]:
    """Return the sections before the texts: key, heading, content."""
    blocks = [("runs", "Runs", sections.runs_table(comparison))]
    blocks.append(("intervals", "How sure", sections.forest_plots(comparison)))
    if comparison.differences:
        blocks.append(("differences", "Differences", sections.differences_table(comparison)))
    if partners := sections.partnerships(comparison):
        blocks.append(("partners", "LLM and encoder", partners))
    blocks.append(("cost", "Cost", sections.cost_front(comparison)))
    if cascade is not None and cascade.curve:
        blocks.append(("cascade", "Cascade", sections.cascade_curve(cascade)))
    blocks.append(("confusion", "Confusion", sections.confusion_matrices(comparison)))
    if comparison.sources:
        blocks.append(("sources", "By source", sections.sources(comparison)))
    diagrams = sections.reliability_diagrams(comparison)
    if diagrams:
        blocks.append(("calibration", "Calibration", diagrams))
    return blocks


def _section(key: str, heading: str, content: Markup) -> Markup:
    return element("section", element("h2", heading), content, id=key)


def _title(comparison: Comparison) -> str:
    runs = len(comparison.runs)
    return f"{runs} runs compared" if runs > 1 else comparison.runs[0].name


def _facts(comparison: Comparison) -> str:
    facts = [comparison.dataset] if comparison.dataset else []
    facts.append(f"{comparison.examples:,} texts")
    if len(comparison.sources) > 1:
        facts.append(f"{len(comparison.sources)} sources")
    facts.append(", ".join(comparison.classes))
    return " · ".join(facts)


def _policy(style: str, script: str) -> str:
    """Forbid the page every network access, and every script but its own."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _asset(name: str) -> str:
    folder = resources.files("sentikit.reports").joinpath("assets")
    return folder.joinpath(name).read_text(encoding="utf-8")
