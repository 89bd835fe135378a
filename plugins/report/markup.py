"""Tables of a comparison in LaTeX, Markdown and HTML."""

from __future__ import annotations

from sentikit import Comparison
from sentikit.extension import Section

from .tables import sections, sentences


def _of_words(section: Section) -> list[bool]:
    return [column in section.texts for column in section.columns]


_LATEX = str.maketrans(
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
    parts = [_latex_table(section) for section in sections(comparison)]
    written = "".join(f"% {' '.join(line.split())}\n" for line in sentences(comparison))
    return "\n".join(parts) + written


def _latex(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX)


def _latex_table(section: Section) -> str:
    columns = "".join("l" if words else "r" for words in _of_words(section))
    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex(section.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_line(section.columns),
        r"\midrule",
        *map(_latex_line, section.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _latex_line(cells: tuple[str, ...]) -> str:
    # Braces, or a cell's bracket would be read as an option of the preceding line break.
    return " & ".join("{" + _latex(cell) + "}" for cell in cells) + r" \\"


_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\|*_`<>[]#"})


def to_markdown(comparison: Comparison) -> str:
    """Return GitHub-flavoured Markdown; names are escaped."""
    parts = [_markdown_table(section) for section in sections(comparison)]
    written = "\n".join(f"- {_markdown(sentence)}" for sentence in sentences(comparison))
    return "\n\n".join([*parts, written]) + "\n"


def _markdown(text: str) -> str:
    return " ".join(text.split()).translate(_MARKDOWN)


def _markdown_table(section: Section) -> str:
    rules = [":--" if words else "--:" for words in _of_words(section)]
    cells = [[_markdown(cell) for cell in row] for row in (section.columns, *section.rows)]
    lines = [cells[0], rules, *cells[1:]]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"### {_markdown(section.title)}\n\n{table}"


def fragment(comparison: Comparison) -> str:
    """Return the tables as HTML for notebooks; all text is escaped."""
    from markupsafe import Markup, escape

    parts: list[str] = []
    for section in sections(comparison):
        head = Markup("").join(Markup("<th>{}</th>").format(name) for name in section.columns)
        rows = Markup("").join(
            Markup("<tr>{}</tr>").format(
                Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row)
            )
            for row in section.rows
        )
        title = escape(section.title)
        parts.append(f"<h4>{title}</h4><table><thead><tr>{head}</tr></thead>{rows}</table>")
    parts += [f"<p>{escape(sentence)}</p>" for sentence in sentences(comparison)]
    return "\n".join(parts)
