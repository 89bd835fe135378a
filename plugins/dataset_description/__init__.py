"""Lists and descriptions of datasets: ``sentikit datasets list`` and ``show``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``datasets list`` and ``datasets show``."""
    register("datasets list", f"{__name__}.command:list_all", summary="List available datasets.")
    register(
        "datasets show",
        f"{__name__}.command:show",
        summary="Describe a dataset: labels, sources, lengths, duplicates, leaks between splits.",
    )
