"""Reports as HTML pages that need no network, and plots as SVG and PNG."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_reports(register: Any) -> None:
    """Register ``html``, ``md`` and ``tex``."""
    register("html", f"{__name__}.format:HtmlReport", summary="one page with charts; SVG and PNG")
    register("md", f"{__name__}.format:MarkdownReport", summary="tables in Markdown")
    register("tex", f"{__name__}.format:LatexReport", summary="tables in LaTeX, for booktabs")
