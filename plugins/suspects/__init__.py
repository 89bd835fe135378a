"""Examples whose gold label is likely wrong: ``sentikit datasets suspects``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``datasets suspects``."""
    register(
        "datasets suspects",
        f"{__name__}.command:suspects",
        summary="List examples whose gold label is likely wrong.",
    )
