"""Descriptions of datasets and their problems: ``sentikit datasets show``."""

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
