"""The embedded demo dataset: sentences written for this project, for trying sentikit."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``demo``."""
    register(
        "demo", f"{__name__}.dataset:Demo", summary="about 500 sentences shipped with sentikit"
    )
