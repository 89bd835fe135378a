"""The report format ``html``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentikit import Comparison
from sentikit.extension import Estimates, JudgedCascade, LabelledTable, ReportFormat

from . import drawing, estimates_page, figures, page


class HtmlReport(ReportFormat):
    """One HTML page without any address in it; plots by the same drawings."""

    def comparison_page(self, comparison: Comparison, cascade: JudgedCascade | None) -> str:
        """Return the page of a comparison."""
        return page.report_page(comparison, cascade)

    def estimates_page(
        self, found: Estimates, table: LabelledTable, certificate: Mapping[str, Any] | None
    ) -> str:
        """Return the page of a labelled table."""
        return estimates_page.estimates_page(found, table, certificate)

    def check_plotting(self) -> None:
        """Check that matplotlib is installed."""
        drawing.check_plotting()

    def comparison_plots(
        self, comparison: Comparison, folder: Path, cascade: JudgedCascade | None
    ) -> list[Path]:
        """Draw a comparison as PNG and SVG."""
        return figures.save_plots(comparison, folder, cascade)

    def run_plots(self, run: Path) -> list[Path]:
        """Draw learning curves and the confusion matrix."""
        return figures.save_run_plots(run)

    def shares_chart(self, found: Estimates, path: Path) -> Path:
        """Draw stacked bars with intervals, or write their numbers as CSV."""
        return estimates_page.save_share_chart(found, path)
