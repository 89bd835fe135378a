"""Export of models in other formats: ``sentikit export``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``export``."""
    register("export", f"{__name__}.command:export", summary="Write a model in another format.")
