"""Labels checked by people: ``annotate``, ``sample``, ``label``, ``estimate`` and ``monitor``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register the commands."""
    register(
        "annotate",
        f"{__name__}.annotate:annotate",
        summary="Check texts by hand, on a local page or in the terminal.",
    )
    register(
        "sample",
        f"{__name__}.annotate:sample",
        summary="Draw rows of a table for an LLM or for people to label.",
    )
    register(
        "label",
        f"{__name__}.label:label",
        summary="Label a whole pile and certify as much of it as the checked texts allow.",
    )
    register(
        "estimate",
        f"{__name__}.estimate:estimate",
        summary="Estimate class shares and accuracy of a labelled table, with intervals.",
    )
    register(
        "monitor",
        f"{__name__}.monitor:monitor",
        summary="Detect when a certificate no longer holds.",
    )
