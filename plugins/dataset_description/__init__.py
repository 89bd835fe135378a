"""What a dataset holds and what looks wrong with it: ``sentikit datasets show``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``datasets show``."""
    register(
        "datasets show",
        f"{__name__}.command:show",
        summary="Describe a dataset: labels, sources, lengths, duplicates, leaks between splits.",
    )
