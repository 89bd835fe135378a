"""The commands ``annotate`` and ``sample``: texts drawn from a table, and checked by people."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``annotate`` and ``sample``."""
    register(
        "annotate",
        f"{__name__}.command:annotate",
        summary="Check texts by hand, on a local page or in the terminal.",
    )
    register(
        "sample",
        f"{__name__}.command:sample",
        summary="Draw rows of a table, for an LLM or for people to label.",
    )
