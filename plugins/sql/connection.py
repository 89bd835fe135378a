"""Connections that only run one SELECT."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from sentikit import InputError, SentikitError
from sentikit.extension import RecordRows, Rows, did_you_mean

_BATCH = 1_000
_SQLITE_MAGIC = b"SQLite format 3\0"
_NAME = "the query's result"
#: A password in a connection string: as a keyword, or in a URL before its path and its quote.
_PASSWORD = re.compile(
    r"\b(ssl)?(password|passwd|pwd)\s*=|://[^/\s:@]*:[^@\s/?#'\"]+@", re.IGNORECASE
)
#: The name in a database's message about an unknown table, and about an unknown column.
_MISSING = (
    re.compile(r"(?:no such table: |Table with name \"?)([^\s\"]+\w)"),
    re.compile(r"(?:no such column: |Referenced column \"|a column named \")([^\s\"]+\w)"),
)
#: DuckDB's kind of error, which begins its messages.
_KIND = re.compile(r"^(?:[A-Z]\w+ )+Error: ")
_EXPLAIN = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*explain\b", re.IGNORECASE | re.DOTALL)
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


def refuse_password(text: str) -> None:
    """Refuse an address or a query with a password, without repeating it.

    Raises:
        InputError: there is one.
    """
    if _PASSWORD.search(text):
        raise InputError(
            "A password does not belong in an address or a query: it would be kept in manifests "
            "and in the shell's history. Set PGPASSWORD, or write it into ~/.pgpass."
        )


def open_query(query: str, database: str | None) -> Rows:
    """Run a query; its rows are read on demand.

    Raises:
        InputError: it is not exactly one SELECT, or a table, column or database does not exist.
        SentikitError: the database failed.
    """
    if database is not None and _is_sqlite(database):
        return _sqlite_rows(query, Path(database))
    return _duckdb_rows(query, database)


def _is_sqlite(database: str) -> bool:
    path = Path(database)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(16) == _SQLITE_MAGIC


def _sqlite_rows(query: str, path: Path) -> Rows:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    denied: list[int] = []

    def authorize(action: int, *_: object) -> int:
        if action in _ALLOWED:
            return sqlite3.SQLITE_OK
        denied.append(action)
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    try:
        cursor = connection.execute(query)
    except (sqlite3.Error, sqlite3.Warning) as error:
        several = "one statement" in str(error)
        # The last byte is SQLite's code of a wrong query; other codes are failures of the file.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        failed = code not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH)
        refused: SentikitError = _failed(error) if failed else _wrong(error, _known(connection))
        connection.close()
        raise _not_one_select() if denied or several else refused from error
    # EXPLAIN returns rows, but none of a table.
    if cursor.description is None or _EXPLAIN.match(query):
        connection.close()
        raise _not_one_select()

    def records() -> Iterator[Sequence[Any]]:
        with _failures(sqlite3.Error):
            while batch := cursor.fetchmany(_BATCH):
                yield from batch

    columns = [column[0] for column in cursor.description]
    return RecordRows(_NAME, columns, records(), connection.close)


def _known(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the tables and views, each with its columns."""
    connection.set_authorizer(None)
    with contextlib.suppress(sqlite3.Error):
        return connection.execute(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c "
            "WHERE m.type IN ('table', 'view')"
        ).fetchall()
    return []


def _duckdb_rows(query: str, database: str | None) -> Rows:
    try:
        import duckdb
    except ImportError as error:
        raise InputError("SQL needs DuckDB: pip install 'sentikit[sql]'.") from error
    connection = _connect(duckdb, database)
    close: Callable[[], None] = connection.close
    try:
        statements = connection.extract_statements(query)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise _not_one_select()
        reader = connection.sql(query).to_arrow_reader(_BATCH)
    except duckdb.Error as error:
        known = _bindings(error)
        # A database that has gone away fails again.
        with contextlib.suppress(duckdb.Error):
            known += connection.execute(
                "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
            ).fetchall()
        close()
        raise _wrong(error, known) from error
    except BaseException:
        close()
        raise

    def records() -> Iterator[Sequence[Any]]:
        with _failures(duckdb.Error, OSError):
            for batch in reader:
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    return RecordRows(_NAME, reader.schema.names, records(), close)


def _connect(duckdb: Any, database: str | None) -> Any:
    # A query only reads files on disk: no network, and none of our Python variables.
    config = {"autoinstall_known_extensions": "false", "python_enable_replacements": "false"}
    remote = database is not None and database.startswith(("postgresql://", "postgres://"))
    if database is not None and not remote and not Path(database).is_file():
        raise InputError(f"{database} does not exist. Check the path of the database.")
    try:
        if database is None or remote:
            connection = duckdb.connect(":memory:", config=config)
        else:
            return duckdb.connect(database, read_only=True, config=config)
    except duckdb.Error as error:
        raise InputError(f"{database} cannot be opened: {_first_line(error)}") from error
    if database is not None:
        address = _postgres(database)
        try:
            connection.execute("LOAD postgres")
        except duckdb.Error as error:
            connection.close()
            raise InputError(
                f"{database} needs DuckDB's extension 'postgres', which is not installed: "
                "python -c \"import duckdb; duckdb.sql('INSTALL postgres')\"."
            ) from error
        try:
            connection.execute(f"ATTACH '{address}' AS db (TYPE postgres, READ_ONLY)")
            connection.execute("USE db")
        except duckdb.Error as error:
            connection.close()
            reason = _first_line(error).rpartition('": ')[2].rpartition("failed: ")[2]
            raise SentikitError(
                f"{database} cannot be reached: {reason.removeprefix('FATAL:').strip()} The "
                "password comes from PGPASSWORD or ~/.pgpass."
            ) from error
    return connection


def _postgres(address: str) -> str:
    """Convert a URL to the keywords of a connection string, quoted for SQL."""
    try:
        parts = urlsplit(address)
        named = {
            "host": parts.hostname,
            "port": parts.port,
            "user": parts.username,
            "dbname": parts.path.lstrip("/"),
        }
    except ValueError as error:
        raise InputError(
            "The address of the database is not of the form postgresql://user@host:port/name. A "
            "password does not belong in an address."
        ) from error
    given = {key: unquote(str(value)) for key, value in named.items() if value}
    written = " ".join(
        "{}='{}'".format(key, value.replace("\\", "\\\\").replace("'", "\\'"))
        for key, value in {**given, **dict(parse_qsl(parts.query))}.items()
    )
    refuse_password(written)
    return written.replace("'", "''")


@contextlib.contextmanager
def _failures(*errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise _failed(error) from error


def _failed(error: Exception) -> SentikitError:
    return SentikitError(f"The database failed while it was read: {_first_line(error)}")


def _not_one_select() -> InputError:
    return InputError("Give exactly one SELECT, which changes nothing. Nothing was run.")


def _bindings(error: Exception) -> list[tuple[str, str]]:
    """Return the columns that DuckDB names beside an unknown one, which may be of a file."""
    _, _, listed = str(error).partition("Candidate bindings: ")
    return [("", name.rpartition(".")[2]) for name in re.findall(r'"([^"]+)"', listed)]


def _wrong(error: Exception, known: Sequence[tuple[str, str]]) -> InputError:
    """Return the database's error; for an unknown table or column with the nearest names."""
    reason, advice = _first_line(error), ""
    if "not authorized" in reason:
        reason = "It may only read the database, so it cannot load an extension."
    if extension := re.search(r"install the required extension '(\w+)", reason):
        reason = (
            f"It needs DuckDB's extension {extension[1]!r}, which is not fetched automatically."
        )
    for place, pattern in enumerate(_MISSING):
        names = sorted({pair[place] for pair in known} - {""})
        if names and (missing := pattern.search(reason)):
            sought = missing[1].rpartition(".")[2]
            # Another table may have a column of this name.
            advice = f" {did_you_mean(sought, [name for name in names if name != sought])}"
    return InputError(f"The query cannot be run: {reason}{advice}")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _KIND.sub("", lines[0]).rstrip(".!") + "." if lines else type(error).__name__
