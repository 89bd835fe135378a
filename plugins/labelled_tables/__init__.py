"""The commands ``estimate`` and ``monitor``: what checked texts say of a labelled table."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Offer ``estimate`` and ``monitor``."""
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
