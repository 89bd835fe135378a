"""Reports as HTML pages that need no network, and plots as SVG and PNG."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_reports(register: Any) -> None:
    """Offer ``html``."""
    register("html", f"{__name__}.format:HtmlReport", summary="one page with charts; SVG and PNG")
