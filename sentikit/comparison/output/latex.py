"""A comparison as LaTeX tables, in the style of the package booktabs."""

from __future__ import annotations

from sentikit.comparison.output.sections import Section, alignment, remarks, sections
from sentikit.comparison.results import Comparison

_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        "…": r"\dots{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def to_latex(comparison: Comparison) -> str:
    r"""Return tables that need ``\usepackage{booktabs}``; names are escaped."""
    parts = [_table(section) for section in sections(comparison)]
    sentences = "".join(f"% {' '.join(line.split())}\n" for line in remarks(comparison))
    return "\n".join(parts) + sentences


def escape(text: str) -> str:
    """Return text that LaTeX shows as it is."""
    return " ".join(text.split()).translate(_SPECIAL)


def _table(section: Section) -> str:
    columns = "".join("l" if words else "r" for words in alignment(section))
    # Braces keep a cell's brackets from being taken for an option of the line break before it.
    body = "\n".join(_line(row) for row in section.rows)
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escape(section.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _line(section.columns),
            r"\midrule",
            body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _line(cells: tuple[str, ...]) -> str:
    return " & ".join("{" + escape(cell) + "}" for cell in cells) + r" \\"
