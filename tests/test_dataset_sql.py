"""The dataset ``sql`` and ``predict --sql``: one SELECT, read-only, over files and databases."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from llm_fixtures import serving
from prompt_commands import write_recipe
from sentikit.plugins.plugin_kit.checks import check_plugin

from sentikit import InputError, SentikitError, open_dataset
from sentikit.cli import sentikit

QUERY = "select id, body as text, label from reviews where id > 1 order by id"


@pytest.fixture(params=["duckdb", "sqlite"])
def database(request: pytest.FixtureRequest) -> str:
    """A database with a table of three reviews."""
    name = f"shop.{request.param}"
    connect: Any = duckdb.connect if request.param == "duckdb" else sqlite3.connect
    connection = connect(name)
    connection.execute("create table reviews (id integer, body varchar, label varchar)")
    for row in ("(1, 'fine', 'positive')", "(2, 'meh', 'neutral')", "(3, 'bad', 'negative')"):
        connection.execute(f"insert into reviews values {row}")
    connection.commit()
    connection.close()
    return name


def opened(query: str, **settings: Any) -> Any:
    return open_dataset({"name": "sql", "test": query, **settings})


def refusal(query: str, **settings: Any) -> str:
    with pytest.raises(InputError) as refused:
        opened(query, **settings).split("test", labelled=False)
    return refused.value.message


def test_each_query_is_a_split(database: str) -> None:
    split = opened(QUERY, database=database).split("test")
    assert split.texts == ["meh", "bad"]
    assert split.ids == ["2", "3"]
    assert split.labels == ["neutral", "negative"]


def test_a_column_whose_name_ends_in_password_may_be_compared() -> None:
    Path("users.csv").write_text("text,has_password\nOne,1\nTwo,0\n")
    query = "select text from 'users.csv' where has_password = 1"
    assert opened(query).split("test", labelled=False).texts == ["One"]


def test_a_url_with_a_port_before_an_at_sign_is_no_password() -> None:
    Path("users.csv").write_text("text,url\nOne,http://x.example:8080/a@b\n")
    for condition in (
        "url = 'http://x.example:8080/a@b'",
        "url like 'http://x.example:8080%' and url like '%@%'",
        "url||'@'='http://x.example:8080/a@b'||'@'",
    ):
        query = f"select text from 'users.csv' where {condition}"
        assert opened(query).split("test", labelled=False).texts == ["One"]


def test_files_are_read_by_their_names() -> None:
    Path("a.csv").write_text("title,body\nOne,two\nThree,four\n")
    query = "select * from 'a.csv' where title <> 'One'"
    split = opened(query, text=["title", "body"]).split("test", labelled=False)
    assert split.texts == ["Three\nfour"]


@pytest.mark.parametrize(
    "query",
    [
        "insert into reviews values (4, 'x', 'neutral')",
        "delete from reviews",
        "drop table reviews",
        "select 1 as text; drop table reviews",
        "update reviews set body = 'x'",
        "attach 'other.db' as other",
        "pragma user_version = 3",
        "create table other as select 1",
        "explain select body as text from reviews",
        "/* a plan */ -- only\nexplain select body as text from reviews",
        "",
    ],
)
def test_anything_but_a_single_select_is_refused_and_changes_nothing(
    query: str, database: str
) -> None:
    before = Path(database).read_bytes()
    assert "exactly one SELECT" in refusal(query, database=database)
    assert Path(database).read_bytes() == before
    assert not Path("other.db").exists()


def test_writing_a_file_from_a_query_is_refused() -> None:
    assert "exactly one SELECT" in refusal("copy (select 1 as text) to 'out.csv'")
    assert not Path("out.csv").exists()


def test_no_extension_is_fetched_automatically(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    message = refusal("select * from 'https://example.invalid/a.csv'")
    assert "It needs DuckDB's extension 'httpfs', which is not fetched automatically." in message
    assert not list(Path.cwd().rglob("*.duckdb_extension*"))


@pytest.mark.parametrize(
    ("query", "missing", "near"),
    [
        ("select * from reviewz", "reviewz", "reviews"),
        ("select bdy as text from reviews", "bdy", "body"),
        ("select r.labl as text from reviews r", "labl", "label"),
    ],
)
def test_a_missing_table_or_column_is_named_with_the_nearest_names(
    query: str, missing: str, near: str, database: str
) -> None:
    message = refusal(query, database=database)
    assert message.startswith("The query cannot be run: ")
    assert missing in message
    assert message.endswith(f"Did you mean '{near}'?")


def test_an_unknown_collation_is_reported_as_a_mistake_in_the_query(
    database: str,
) -> None:
    message = refusal("select * from reviews order by body collate german", database=database)
    assert message.startswith("The query cannot be run: ")
    assert "german" in message


def test_a_column_of_another_table_is_not_suggested_for_itself(database: str) -> None:
    with (
        sqlite3.connect(database)
        if database.endswith("sqlite")
        else duckdb.connect(database) as connection
    ):
        connection.execute("create table visits (bodies varchar)")
    message = refusal("select body as text from visits", database=database)
    assert "body" in message
    assert "Did you mean 'bodies'?" in message


def test_a_missing_column_of_a_file_is_named_with_the_nearest_one() -> None:
    Path("a.csv").write_text("title,body\nOne,two\n")
    assert "Did you mean 'title'?" in refusal("select titel as text from 'a.csv'")


def test_a_query_cannot_load_an_extension() -> None:
    query = "select load_extension('other') as text"
    connection = sqlite3.connect("shop.sqlite")
    connection.execute("create table reviews (body varchar)")
    connection.close()
    assert "it cannot load an extension" in refusal(query, database="shop.sqlite")


def test_a_database_that_breaks_halfway_is_reported_in_one_sentence_and_the_job_resumes() -> None:
    def make() -> None:
        connection = sqlite3.connect("shop.sqlite")
        connection.execute("create table reviews (text varchar)")
        # Larger than SQLite's memory, and than what is read ahead.
        rows = [(f"I love film {number}{' very much' * 200}",) for number in range(3000)]
        connection.executemany("insert into reviews values (?)", rows)
        connection.commit()
        connection.close()

    make()
    query = ["--sql", "select text from reviews", "--database", "shop.sqlite"]
    with serving() as s:
        words = ["predict", write_recipe(s.url, ["I love it"]), *query, "--output", "out.csv"]

        def damage() -> None:
            while s.server.calls < 100:
                time.sleep(0.01)
            os.truncate("shop.sqlite", 20_000)

        breaking = threading.Thread(target=damage)
        breaking.start()
        broken = CliRunner().invoke(sentikit, words)
        breaking.join()
        paid = s.server.calls
        assert broken.exit_code == 1, broken.output
        assert "Error: The database failed while it was read: " in broken.stderr
        assert "Traceback" not in broken.stderr
        assert not Path("out.csv").exists()
        again = CliRunner().invoke(sentikit, [*words, "--resume"])
        assert again.exit_code == 1, again.output
        assert "The database failed while it was read" in again.stderr
        Path("shop.sqlite").unlink()
        make()
        resumed = CliRunner().invoke(sentikit, [*words, "--resume"])
        calls = s.server.calls
    assert resumed.exit_code == 0, resumed.output
    assert "3,000 of 3,000 rows labelled" in resumed.stderr
    # Paid answers are not asked again; a few calls find out that the server still answers.
    assert 100 < paid < 3000
    assert calls <= 3000 + 10


def test_python_variables_are_not_queried_as_tables() -> None:
    assert "cannot be run" in refusal("select * from query")


@pytest.mark.parametrize(
    "settings",
    [
        {"database": "postgresql://me:secret@host/db"},
        {"database": "host=h password=secret"},
        {"database": "host=h sslpassword=secret"},
        {"query": "select * from postgres_scan('host=h password=secret', 'public', 'reviews')"},
    ],
)
def test_a_password_is_refused_and_not_repeated(settings: dict[str, str]) -> None:
    message = refusal(settings.pop("query", "select 1 as text"), **settings)
    assert "PGPASSWORD" in message
    assert "secret" not in message


def test_a_missing_database_is_named() -> None:
    assert "none.db does not exist" in refusal("select 1 as text", database="none.db")
    Path("odd.db").write_text("this is no database, whatever its name says")
    assert "odd.db cannot be opened" in refusal("select 1 as text", database="odd.db")


def test_a_missing_postgres_extension_is_reported_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    with pytest.raises(SentikitError, match="INSTALL postgres"):
        opened("select 1 as text", database="postgresql://me@127.0.0.1:1/db").split("test")


def test_a_database_that_fails_midway_exits_with_1_not_2() -> None:
    text = "case when i > 50000 then error('gone') else 'fine' end"
    query = f"select {text} as text from range(100000) t(i)"
    with pytest.raises(SentikitError, match="failed while it was read") as failed:
        opened(query).split("test", labelled=False)
    assert failed.value.exit_code == 1


def test_a_database_deleted_before_the_query_runs_is_reported_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(module: Any, database: str | None) -> Any:
        connection = module.connect()
        connection.close()
        return connection

    monkeypatch.setattr("sentikit.plugins.sql.connection._connect", gone)
    assert refusal(QUERY).startswith("The query cannot be run: Connection already closed")


def test_the_columns_of_a_query_stay_when_its_texts_are_labelled(
    database: str, trained_run: Path
) -> None:
    words = ["predict", str(trained_run), "--sql", QUERY, "--database", database]
    result = CliRunner().invoke(sentikit, [*words, "--output", "labelled.jsonl"])
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in Path("labelled.jsonl").read_text().splitlines()]
    assert [(row["id"], row["text"], row["label"]) for row in rows] == [
        (2, "meh", "neutral"),
        (3, "bad", "negative"),
    ]
    assert all(row["predicted_label"] for row in rows)
    Path("a.csv").write_text("text\na\n")
    both = CliRunner().invoke(sentikit, ["predict", str(trained_run), "a.csv", "--sql", QUERY])
    assert both.exit_code == 2
    assert "mutually exclusive" in both.stderr


def test_the_sql_plugin_passes_the_conformance_kit() -> None:
    check_plugin("sql", settings={"sql": {"test": "select 'fine' as text, 'positive' as label"}})
