"""Reports: pages and plots of findings, drawn by a plugin's `ReportFormat`.

The bundled format is ``html``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.components import Component
from sentikit.errors import InputError
from sentikit.files import write_text
from sentikit.registry import default_registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentikit.assurance.estimates import Estimates, LabelledTable
    from sentikit.comparison.judgement import Comparison
    from sentikit.ensembles.cascade import JudgedCascade

HOOK = "register_reports"


@dataclass(frozen=True)
class Section:
    """A table of a comparison.

    Attributes:
        title: its title.
        columns: headers of the columns.
        rows: cells, one for each column.
        texts: the columns of text, which are left-aligned.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...] = ("run",)


class ReportFormat(Component, ABC):
    """A format of reports; its registered name is the suffix of its files, such as ``html``."""

    def _cannot(self, what: str) -> InputError:
        return InputError(f"The report format of {type(self).__name__} {what}.")

    @abstractmethod
    def comparison_page(self, comparison: Comparison, cascade: JudgedCascade | None) -> str:
        """Return a comparison as text of this format; `cascade` adds a cascade's curve."""

    def sections(self, comparison: Comparison) -> tuple[list[Section], list[str]]:
        """Return a comparison's tables, and the sentences below them, the advice last."""
        raise self._cannot("has no tables")

    def records(self, comparison: Comparison, rows: str) -> list[dict[str, Any]]:
        """Return a record for each run and source, or each difference if `rows` is ``pairs``."""
        raise self._cannot("has no records")

    def fragment(self, comparison: Comparison) -> str:
        """Return a comparison as HTML for a notebook, with all text escaped."""
        raise self._cannot("has no fragments")

    def estimates_page(
        self, found: Estimates, table: LabelledTable, certificate: Mapping[str, Any] | None
    ) -> str:
        """Return a labelled table's estimates, and its certificate, as text of this format."""
        raise self._cannot("presents comparisons only")

    def check_plotting(self) -> None:
        """Check that plots can be drawn; raise an `InputError` that names a missing package."""
        raise self._cannot("draws no plots")

    def comparison_plots(
        self, comparison: Comparison, folder: Path, cascade: JudgedCascade | None
    ) -> list[Path]:
        """Draw a comparison into a folder; return the files."""
        raise self._cannot("draws no plots")

    def run_plots(self, run: Path) -> list[Path]:
        """Draw a run's training log and scores into its folder ``plots``; return the files."""
        raise self._cannot("draws no plots")

    def shares_chart(self, found: Estimates, path: Path) -> Path:
        """Draw class shares by group; the path's suffix chooses the kind of file.

        Raises:
            InputError: the suffix is not supported.
        """
        raise self._cannot("draws no plots")


def report_format(name: str = "html") -> ReportFormat:
    """Return the report format registered under a name."""
    found: type[ReportFormat] = default_registry().load(HOOK, name)
    return found(found.Settings())


def format_for(path: Path) -> ReportFormat:
    """Return the format of a report with this file name.

    Raises:
        InputError: no format has its suffix.
    """
    suffix = path.suffix.lower().removeprefix(".")
    name = "html" if suffix == "htm" else suffix
    names = default_registry().names(HOOK)
    if name not in names:
        endings = " or ".join(f".{known}" for known in sorted(names))
        raise InputError(f"{path} is not a report. Use a file name that ends in {endings}.")
    return report_format(name)


def write_report(
    comparison: Comparison, path: str | Path, cascade: JudgedCascade | None = None
) -> None:
    """Write a comparison as a report, by default one HTML page that needs no network.

    Args:
        comparison: the comparison to report.
        path: the file, whose suffix chooses the format; an existing file is replaced.
        cascade: a cascade of two of the runs, whose curve is drawn.

    Raises:
        InputError: no format has the suffix, or the file may not be written.
        SentikitError: the disk is full or fails.
    """
    path = Path(path)
    write_text(path, format_for(path).comparison_page(comparison, cascade))


def save_plots(
    comparison: Comparison, folder: str | Path, cascade: JudgedCascade | None = None
) -> list[Path]:
    """Draw a comparison into a folder, each figure as PNG and SVG; return the files.

    The figures are ``scores`` and ``confusion_matrices``; with several runs ``differences``; and,
    if there are costs, sources, probabilities or a cascade, ``cost_front``, ``sources``,
    ``reliability``, ``roc``, ``precision_recall`` and ``cascade_curve``.

    Args:
        comparison: the comparison to draw.
        folder: the folder of the files; those of the same names are replaced.
        cascade: a cascade of two of the runs, whose curve is drawn.

    Raises:
        InputError: matplotlib is not installed, or the folder may not be written.
        SentikitError: the disk is full or fails.
    """
    return report_format().comparison_plots(comparison, Path(folder), cascade)
