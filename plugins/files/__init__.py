"""The ``files`` dataset: tables of your own."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Offer ``files``."""
    register(
        "files",
        f"{__name__}.dataset:Files",
        summary="tables of your own: CSV, TSV, JSON, Parquet, Arrow, Excel, folders of texts",
    )
