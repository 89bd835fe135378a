"""The command ``serve``: any classifier behind HTTP."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``serve``."""
    register(
        "serve",
        f"{__name__}.command:serve",
        summary="Serve a classifier over HTTP, as text-embeddings-inference does.",
    )
