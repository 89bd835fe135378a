"""``--sql`` over a real Postgres server; skipped without one, or without DuckDB's extension."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from llm_fixtures import serving
from outside_tools import free_port
from prompt_commands import all_files, sentikit, write_recipe

from sentikit import InputError, SentikitError, open_dataset

PASSWORD = "not-to-be-kept"
TABLES = """
create table reviews (id int, body text, stars numeric(3, 1), seen date, tags text[], raw bytea);
insert into reviews select i, 'text ' || i, 4.5, '2026-01-02', array['a'], '\\x00ff'
    from generate_series(1, 3) i;
insert into reviews (id) values (4);
create table visits (number int);
create function visit() returns text language plpgsql as
    $$ begin insert into visits values (1); return 'text'; end $$;
create view counted as select visit() as text;
create table many as select i as id, 'I love number ' || i as text
    from generate_series(1, 100000) i;
"""


class Server:
    """A Postgres server of its own on a free port."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._data = programs, folder / "data"
        self.port, self.log = free_port(), folder / "log"
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "-U", "reader", "--auth=scram-sha-256", f"--pwfile={secret}")

    @property
    def address(self) -> str:
        return f"postgresql://reader@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        flags = f"-p {self.port} -k {self.log.parent} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-o", flags, "-l", f"{self.log}.server", "-w", "start")

    def kill(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "stop")

    def execute(self, statements: str) -> str:
        words = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "reader", "-d", "postgres"]
        command = [self._programs / "psql", *words, "-qAtc", statements]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), "-D", str(self._data), *words]
        with self.log.open("a") as log:
            subprocess.run(
                command, user=self._user, stdout=log, stderr=log, check=True, cwd="/", timeout=60
            )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb", path=os.pathsep.join([*map(str, homes), os.environ["PATH"]]))
    if found is None:
        pytest.skip("there is no Postgres here")
    if os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("Postgres does not run as root")
    try:
        duckdb.connect().execute("LOAD postgres")
    except duckdb.Error:
        pytest.skip("DuckDB's extension 'postgres' is not installed")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    folder.chmod(0o755)
    made = Server(Path(found).resolve().parent, folder)
    made.start()
    try:
        made.execute(TABLES)
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)


def texts(server: Server, query: str, **settings: Any) -> list[str]:
    section = {"name": "sql", "test": query, "database": server.address, **settings}
    return open_dataset(section).split("test", labelled=False, empty_texts=True).texts


def test_numbers_dates_and_nulls_become_text(server: Server) -> None:
    query = "select * from reviews order by id"
    assert texts(server, query, text="body") == ["text 1", "text 2", "text 3", ""]
    assert texts(server, query, text="stars") == ["4.5", "4.5", "4.5", ""]
    assert texts(server, query, text="seen") == ["2026-01-02"] * 3 + [""]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("select tags as text from reviews", "row 1: the column 'text' holds a list"),
        ("select raw as text from reviews", "row 1: the column 'text' holds bytes"),
        ("select * from reviews where id > 9", "has no rows"),
        ("select text from reviewz", "Table with name reviewz does not exist"),
        ("select text from counted", "cannot execute INSERT in a read-only transaction"),
        ("select * from postgres_query('db', 'select visit() as text')", "read-only transaction"),
        ("select * from postgres_query('db', 'insert into visits values (1)')", "cannot be run"),
        ("call postgres_execute('db', 'insert into visits values (1)')", "exactly one SELECT"),
        ("insert into visits values (1)", "exactly one SELECT"),
        ("delete from reviews", "exactly one SELECT"),
        ("select 'a' as text; delete from reviews", "exactly one SELECT"),
    ],
)
def test_a_query_that_writes_or_returns_no_text_is_refused_and_changes_nothing(
    server: Server, query: str, sentence: str
) -> None:
    with pytest.raises(InputError) as refused:
        texts(server, query, **({"text": "body"} if "id > 9" in query else {}))
    assert sentence in refused.value.message
    assert server.execute("select count(*) from visits") == "0"
    assert server.execute("select count(*) from reviews") == "4"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("/postgres", "/gone"), 'database "gone" does not exist'),
        (("127.0.0.1:", "127.0.0.1:1"), "is not of the form postgresql://user@host:port/name"),
        (("reader@", "nobody@"), "password authentication failed"),
        (("/postgres", "/postgres?sslmode=require"), "server does not support SSL"),
        (("/postgres", "/postgres?pass%77ord=x"), "A password does not belong in an address"),
        (("reader@", "reader:a/b@"), "A password does not belong in an address"),
    ],
)
def test_a_server_that_cannot_be_reached_is_reported_in_one_sentence(
    server: Server, change: tuple[str, str], sentence: str
) -> None:
    scheme, rest = server.address.split("//")
    address = f"{scheme}//{rest.replace(*change, 1)}"
    with pytest.raises(SentikitError) as failed:
        texts(server, "select body as text from reviews", database=address)
    assert sentence in failed.value.message
    assert "INSTALL" not in failed.value.message
    assert "\n" not in failed.value.message


def test_a_server_that_is_down_is_reported_in_one_sentence(server: Server) -> None:
    address = f"postgresql://reader@127.0.0.1:{free_port()}/postgres"
    with pytest.raises(SentikitError, match=r"cannot be reached: Connection refused\.") as failed:
        texts(server, "select body as text from reviews", database=address)
    assert failed.value.exit_code == 1


def test_the_password_is_in_no_file_of_a_run(server: Server) -> None:
    with serving() as llm:
        recipe = Path(write_recipe(llm.url, ["fine"]))
        written = json.loads(recipe.read_text())
        query = "select body as text from reviews where body is not null"
        written["dataset"] = {"name": "sql", "test": query, "database": server.address}
        recipe.write_text(json.dumps(written))
        done = sentikit("prompt", "--recipe", str(recipe), "--output", "run", OPENAI_API_KEY="k")
    assert done.returncode == 0, done.stderr
    assert server.address in Path("run/manifest.json").read_text()
    assert not [str(f) for f in all_files(Path.cwd()) if PASSWORD.encode() in f.read_bytes()]
    assert PASSWORD not in done.stdout + done.stderr


def test_a_server_killed_halfway_leaves_nothing_half_written_and_the_job_is_resumed(
    server: Server,
) -> None:
    query = "select id, text from many where id <= 3000"
    with serving(seconds=0.01) as llm:
        recipe = write_recipe(llm.url, ["fine"])
        words = ["predict", recipe, "--sql", query, "--database", server.address]
        words += ["--output", "labelled.csv"]

        def kill_halfway() -> None:
            while llm.server.calls < 20:
                time.sleep(0.005)
            server.kill()

        killer = threading.Thread(target=kill_halfway)
        killer.start()
        killed = sentikit(*words, OPENAI_API_KEY="k")
        killer.join()
        assert killed.returncode == 1
        assert killed.stderr.count("The database failed while it was read") == 1
        assert not Path("labelled.csv").exists()
        server.start()
        resumed = sentikit(*words, "--resume", OPENAI_API_KEY="k")
        assert resumed.returncode == 0, resumed.stderr
        assert len(Path("labelled.csv").read_text().splitlines()) == 3001
        asked = [text for text in llm.server.answered if "number" in text]
        assert len(asked) == 3000
        assert {llm.server.answered[text] for text in asked} == {1}
