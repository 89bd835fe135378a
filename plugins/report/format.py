"""The report formats ``html``, ``md`` and ``tex``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.extension import ReportFormat

if TYPE_CHECKING:
    from sentikit import Comparison
    from sentikit.extension import Estimates, JudgedCascade, LabelledTable, Section


class HtmlReport(ReportFormat):
    """One HTML page that loads nothing from the network; plots from the same drawings."""

    def comparison_page(self, comparison: Comparison, cascade: JudgedCascade | None) -> str:
        """Return the page of a comparison."""
        from .page import report_page

        return report_page(comparison, cascade)

    def sections(self, comparison: Comparison) -> tuple[list[Section], list[str]]:
        """Return the tables and sentences that ``sentikit compare`` prints."""
        from . import tables

        return tables.sections(comparison), tables.sentences(comparison)

    def records(self, comparison: Comparison, rows: str) -> list[dict[str, Any]]:
        """Return the rows for CSV and pandas."""
        from . import tables

        return tables.records(comparison, rows)

    def fragment(self, comparison: Comparison) -> str:
        """Return the tables as HTML."""
        from . import markup

        return markup.fragment(comparison)

    def estimates_page(
        self, found: Estimates, table: LabelledTable, certificate: Mapping[str, Any] | None
    ) -> str:
        """Return the page of a labelled table."""
        from . import estimates_page

        return estimates_page.estimates_page(found, table, certificate)

    def check_plotting(self) -> None:
        """Check that matplotlib is installed."""
        from . import drawing

        drawing.check_plotting()

    def comparison_plots(
        self, comparison: Comparison, folder: Path, cascade: JudgedCascade | None
    ) -> list[Path]:
        """Draw a comparison as PNG and SVG."""
        from . import figures

        return figures.save_plots(comparison, folder, cascade)

    def run_plots(self, run: Path) -> list[Path]:
        """Draw learning curves and the confusion matrix."""
        from . import figures

        return figures.save_run_plots(run)

    def shares_chart(self, found: Estimates, path: Path) -> Path:
        """Draw stacked bars with intervals, or write their numbers as CSV."""
        from . import estimates_page

        return estimates_page.save_share_chart(found, path)


class MarkdownReport(ReportFormat):
    """Tables for a pull request or a wiki."""

    def comparison_page(self, comparison: Comparison, cascade: JudgedCascade | None) -> str:
        """Return GitHub-flavoured Markdown."""
        from . import markup

        return markup.to_markdown(comparison)


class LatexReport(ReportFormat):
    """Tables for a paper."""

    def comparison_page(self, comparison: Comparison, cascade: JudgedCascade | None) -> str:
        """Return tables that need the package booktabs."""
        from . import markup

        return markup.to_latex(comparison)
