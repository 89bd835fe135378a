"""Labels one can defend: the commands ``label``, ``estimate`` and ``monitor``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``label``, ``estimate`` and ``monitor``."""
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
        summary="Notice when a certificate no longer holds.",
    )
