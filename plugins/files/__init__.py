"""The ``files`` dataset: CSV, TSV, JSON Lines and Parquet files of your own."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Offer ``files``."""
    register(
        "files",
        f"{__name__}.dataset:Files",
        summary="CSV, TSV, JSON Lines or Parquet files with any column names",
    )
