"""Reports: one HTML file that needs no network."""

from __future__ import annotations

from sentikit.reports.page import write_report

__all__ = ["write_report"]
