"""JSON documents with a list of rows."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_table_formats(register: Any) -> None:
    """Register ``.json``."""
    register(
        "json", f"{__name__}.format:Json", summary="an array of objects, or an object with one"
    )
