"""A comparison as Markdown tables."""

from __future__ import annotations

from sentikit.comparison.output.sections import Section, alignment, remarks, sections
from sentikit.comparison.results import Comparison

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\|*_`<>[]#"})


def to_markdown(comparison: Comparison) -> str:
    """Return GitHub-flavoured Markdown; names are escaped."""
    parts = [_table(section) for section in sections(comparison)]
    sentences = "\n".join(f"- {escape(sentence)}" for sentence in remarks(comparison))
    return "\n\n".join([*parts, sentences]) + "\n"


def escape(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return " ".join(text.split()).translate(_SPECIAL)


def _table(section: Section) -> str:
    rules = [":--" if words else "--:" for words in alignment(section)]
    cells = [[escape(cell) for cell in row] for row in (section.columns, *section.rows)]
    lines = [cells[0], rules, *cells[1:]]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"### {escape(section.title)}\n\n{table}"
