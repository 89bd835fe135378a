"""CSV, LaTeX, Markdown, HTML and pandas tables of a comparison."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sentikit.comparison.results import (
    Difference,
    Estimate,
    Estimates,
    Findings,
    RunFindings,
    Test,
)
from sentikit.comparison.tables import Section, alignment, sections, sentences
from sentikit.errors import InputError
from sentikit.scoring import Scores

if TYPE_CHECKING:
    import pandas as pd

#: What the column `source` says of all examples together.
ALL = "all"


def runs_to_csv(comparison: Findings) -> str:
    """Return a row for each run and source; `all` stands for all examples."""
    return _csv([row for run in comparison.runs for row in _run_rows(run)])


def differences_to_csv(comparison: Findings) -> str:
    """Return a row for each difference."""
    return _csv([_difference(found) for found in comparison.differences])


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


def _row(run: RunFindings, source: str, scores: Scores, estimates: Estimates) -> dict[str, Any]:
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


def _estimate(name: str, estimate: Estimate) -> dict[str, float]:
    return {
        name: estimate.value,
        f"{name}_low": estimate.percentile.low,
        f"{name}_high": estimate.percentile.high,
        f"{name}_bca_low": estimate.bca.low,
        f"{name}_bca_high": estimate.bca.high,
    }


def _test(name: str, test: Test) -> dict[str, float]:
    return {
        f"{name}_p": test.p,
        f"{name}_holm": test.holm,
        f"{name}_bh": test.benjamini_hochberg,
    }


#: Characters with which spreadsheets begin a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _csv(rows: list[dict[str, Any]]) -> str:
    """Write rows under all their columns; no name acts as a formula in a spreadsheet."""
    stream = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([spreadsheet_safe(column) for column in columns])
    writer.writerows([spreadsheet_safe(row.get(column)) for column in columns] for row in rows)
    return stream.getvalue()


def spreadsheet_safe(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: such text is preceded by ``'``."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def to_frame(comparison: Findings, rows: str = "runs") -> pd.DataFrame:
    """Return the rows of the CSV as a table of pandas.

    Args:
        comparison: what it shows.
        rows: ``runs``, each run on all texts and on each source, or ``pairs``, each difference.

    Raises:
        InputError: `rows` is something else.
    """
    import pandas as pd

    if rows not in ("runs", "pairs"):
        raise InputError(f"rows is 'runs' or 'pairs', not {rows!r}.")
    if rows == "runs":
        return pd.DataFrame([row for run in comparison.runs for row in _run_rows(run)])
    return pd.DataFrame([_difference(found) for found in comparison.differences])


def to_html(comparison: Findings) -> str:
    """Return the tables as a fragment of HTML for notebooks; all text is escaped."""
    import pandas as pd
    from markupsafe import escape

    parts = []
    for section in sections(comparison):
        frame = pd.DataFrame([list(row) for row in section.rows], columns=list(section.columns))
        parts.append(f"<h4>{escape(section.title)}</h4>{frame.to_html(index=False, border=0)}")
    parts += [f"<p>{escape(sentence)}</p>" for sentence in sentences(comparison)]
    return "\n".join(parts)


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


def to_latex(comparison: Findings) -> str:
    r"""Return tables that need ``\usepackage{booktabs}``; names are escaped."""
    parts = [_latex_table(section) for section in sections(comparison)]
    written = "".join(f"% {' '.join(line.split())}\n" for line in sentences(comparison))
    return "\n".join(parts) + written


def _latex(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX)


def _latex_table(section: Section) -> str:
    columns = "".join("l" if words else "r" for words in alignment(section))
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
    # Braces keep a cell's brackets from being read as an option of the preceding line break.
    return " & ".join("{" + _latex(cell) + "}" for cell in cells) + r" \\"


_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\|*_`<>[]#"})


def to_markdown(comparison: Findings) -> str:
    """Return GitHub-flavoured Markdown; names are escaped."""
    parts = [_markdown_table(section) for section in sections(comparison)]
    written = "\n".join(f"- {_markdown(sentence)}" for sentence in sentences(comparison))
    return "\n\n".join([*parts, written]) + "\n"


def _markdown(text: str) -> str:
    return " ".join(text.split()).translate(_MARKDOWN)


def _markdown_table(section: Section) -> str:
    rules = [":--" if words else "--:" for words in alignment(section)]
    cells = [[_markdown(cell) for cell in row] for row in (section.columns, *section.rows)]
    lines = [cells[0], rules, *cells[1:]]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"### {_markdown(section.title)}\n\n{table}"
