"""Tables of your own: the ``files`` dataset, and the formats CSV, TSV, Parquet and Arrow."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``files``."""
    register(
        "files",
        f"{__name__}.dataset:Files",
        summary="tables of your own: CSV, TSV, JSON, Parquet, Arrow, Excel, folders of texts",
    )


@hookimpl
def register_table_formats(register: Any) -> None:
    """Register CSV and TSV, Parquet and, for Arrow, ``.arrow``, ``.feather`` and ``.ipc``."""
    register("csv", f"{__name__}.delimited:Csv", summary="CSV, with the line of each row")
    register("tsv", f"{__name__}.delimited:Tsv", summary="TSV, quoted like CSV")
    unquoted = f"{__name__}.delimited:UnquotedTsv"
    register("tsv-unquoted", unquoted, summary="TSV in which quotes have no meaning")
    register("folder", f"{__name__}.folder:Folder", summary="the .txt files of a folder or pattern")
    register("parquet", f"{__name__}.columnar:Parquet", summary="Parquet, read in batches of rows")
    for ending in ("arrow", "feather", "ipc"):
        register(ending, f"{__name__}.columnar:Arrow", summary="Arrow, read in batches of rows")
