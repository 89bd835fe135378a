"""The dataset ``sql``: the rows of one SELECT over files or a database."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``sql``."""
    register(
        "sql",
        f"{__name__}.dataset:Sql",
        summary="one SELECT over files, DuckDB, SQLite or Postgres",
    )
