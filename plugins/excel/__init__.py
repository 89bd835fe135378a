"""Excel workbooks as tables, with the extra ``excel``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_table_formats(register: Any) -> None:
    """Register ``.xlsx`` and ``.xlsm``."""
    for ending in ("xlsx", "xlsm"):
        register(ending, f"{__name__}.format:Workbook", summary="a sheet of an Excel workbook")
