"""Labelling on a real Ray cluster of two workers on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from llm_fixtures import PRICES, serving
from prompt_commands import texts, write_recipe

import sentikit
from sentikit.cli import sentikit as cli

pytest.importorskip("ray")

SENTIKIT = [sys.executable, "-m", "sentikit"]
WORDS = ["I love it", "not worth a cent", "a table", "good food", "  ", "the parcel arrived"]


def reviews(path: Path, rows: int) -> Path:
    """Write two files whose row groups do not fit the parts."""
    path.mkdir()
    texts = [
        f"{WORDS[row % len(WORDS)]} {row % 97}" if row % 6 != 4 else None for row in range(rows)
    ]
    table = pa.table({"id": range(rows), "text": texts})
    pq.write_table(table.slice(0, rows // 3), path / "a.parquet", row_group_size=700)
    pq.write_table(table.slice(rows // 3), path / "b.parquet", row_group_size=1100)
    return path


def on_ray(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sentikit", "predict-on-ray", *arguments],
        capture_output=True,
        text=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*.parquet"))}


def test_an_arrow_table_gets_the_columns_that_predict_writes(trained_run: Path) -> None:
    from sentikit.ray import Labeller

    table = pa.table({"text": ["I love it", None, "bad", "I love it"], "n": [1, 2, 3, 4]})
    labelled = Labeller(str(trained_run))(table)
    labels = sentikit.load(trained_run).labels
    assert labelled.column_names == [
        "text",
        "n",
        "predicted_label",
        *(f"probability_{label}" for label in labels),
    ]
    rows = labelled.to_pylist()
    assert rows[1]["predicted_label"] is None
    assert rows[0]["predicted_label"] == rows[3]["predicted_label"]
    with pytest.raises(sentikit.InputError, match="already has a column 'predicted_label'"):
        Labeller(str(trained_run))(labelled)


@pytest.mark.slow
def test_two_ray_workers_one_of_them_killed_write_the_bytes_of_one(
    trained_run: Path, tmp_path: Path
) -> None:
    path = reviews(tmp_path / "reviews", 30_000)
    command = [str(trained_run), str(path), "--rows-per-part", "4000"]
    alone = on_ray(*command, "--output", "alone", "--workers", "1")
    assert alone.returncode == 0, alone.stderr
    assert "30,000 rows in 8 parts" in alone.stderr
    expected = contents(Path("alone"))
    together = pq.read_table([f"alone/{name}" for name in expected])
    assert together.column("id").to_pylist() == list(range(30_000))
    with subprocess.Popen(
        [sys.executable, "-m", "sentikit", "predict-on-ray", *command, "--output", "both"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not contents(Path("both")):
            assert process.poll() is None
            time.sleep(0.05)
        worker = subprocess.run(
            ["pgrep", "-f", "ray::MapWorker|ray::.*PartLabeller"], capture_output=True, text=True
        ).stdout.split()
        for found in worker[:1]:
            os.kill(int(found), signal.SIGKILL)
        assert process.stderr is not None
        said = process.stderr.read()
    assert worker, "no worker was found to kill"
    assert process.returncode == 0, said
    assert contents(Path("both")) == expected


@pytest.mark.slow
def test_a_killed_ray_job_resumes_to_the_same_bytes(trained_run: Path, tmp_path: Path) -> None:
    path = reviews(tmp_path / "reviews", 12_000)
    command = [str(trained_run), str(path), "--rows-per-part", "2000", "--output", "labelled"]
    begun = subprocess.Popen(
        [sys.executable, "-m", "sentikit", "predict-on-ray", *command], stderr=subprocess.PIPE
    )
    while not contents(Path("labelled")):
        assert begun.poll() is None
        time.sleep(0.05)
    begun.kill()
    begun.wait()
    assert begun.stderr is not None
    begun.stderr.close()
    kept = contents(Path("labelled"))
    refused = on_ray(*command)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    other = on_ray(*command, "--resume", "--rows-per-part", "100")
    assert other.returncode == 2
    assert "begun with another" in other.stderr
    done = on_ray(*command, "--resume")
    assert done.returncode == 0, done.stderr
    final = contents(Path("labelled"))
    assert len(final) == 6
    assert {name: final[name] for name in kept} == kept


def recipe_for(url: str) -> str:
    """Write a prompt recipe whose own split is not what is labelled."""
    return write_recipe(url, ["I love it"], prices=PRICES)


@pytest.mark.slow
def test_rows_that_fail_are_counted_with_exit_1_and_resume_asks_about_them_alone() -> None:
    rows = texts(40)
    pq.write_table(pa.table({"text": rows}), "in.parquet")
    with serving(fault_words={"number 13": "400:No.", "number 27": "400:No."}) as s:
        command = [recipe_for(s.url), "in.parquet", "--output", "out", "--rows-per-part", "10"]
        failed = on_ray(*command)
        assert failed.returncode == 1
        assert "40 rows in 4 parts at out." in failed.stderr
        last = failed.stderr.strip().splitlines()[-1]
        assert last == (
            "2 rows have failed and no label. Ask about these again: sentikit predict-on-ray "
            "--output out --rows-per-part 10 --resume -- own.yaml in.parquet"
        )
        found = labelled("out")
        assert [n for n, row in enumerate(found) if not row["predicted_label"]] == [13, 27]
        assert "No." in found[13]["error"]
        s.server.behaviour = type(s.server.behaviour)()
        before, kept = s.server.calls, contents(Path("out"))
        done = on_ray(*command, "--resume")
        assert done.returncode == 0, done.stderr
        assert s.server.calls - before == 2
    final = contents(Path("out"))
    assert [name for name in final if final[name] == kept[name]] == [
        "part-000000.parquet",
        "part-000003.parquet",
    ]
    labels = ["positive", "negative", "neutral"]
    assert [row["predicted_label"] for row in labelled("out")] == [labels[n % 3] for n in range(40)]


@pytest.mark.slow
def test_all_workers_share_one_budget_that_holds() -> None:
    pq.write_table(pa.table({"text": texts(60)}), "in.parquet")
    with serving() as s:
        command = [recipe_for(s.url), "in.parquet", "--output", "out", "--rows-per-part", "5"]
        stopped = on_ray(*command, "--max-cost", "0.001")
        assert stopped.returncode == 1, stopped.stderr
        assert "The budget is spent. Finished parts are kept: resume with --resume." in (
            stopped.stderr
        )
        assert 0 < sum(s.server.billed.values()) / 1e6 <= 0.001
        done = on_ray(*command, "--max-cost", "1", "--resume")
        assert done.returncode == 0, done.stderr
    assert len(labelled("out")) == 60


def labelled(folder: str) -> list[dict[str, str]]:
    return [row for path in sorted(Path(folder).glob("*.parquet")) for row in rows_of(path)]


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(pq.read_table(path).to_pylist())


def test_a_machine_without_ray_is_told_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for command in (["predict-on-ray"], ["predict", "--on", "ray"]):
        done = CliRunner().invoke(cli, [*command, "runs/none", "x.parquet", "--output", "out"])
        assert done.exit_code == 2
        assert "pip install 'sentikit[ray]'" in done.stderr


@pytest.mark.parametrize("command", [["predict-on-ray"], ["predict", "--on", "ray"]])
def test_input_other_than_parquet_is_refused_on_ray(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "reviews.csv").write_text("text\nI love it\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sentikit",
            *command,
            "runs/none",
            "reviews.csv",
            "--output",
            "labelled",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "is not Parquet" in done.stderr
    assert not Path("labelled").exists()


def test_predict_on_an_unknown_engine_names_the_known_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sentikit", "predict", "runs/none", "x.parquet", "--on", "rai"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Did you mean 'ray'?" in done.stderr


@pytest.mark.parametrize("more", [["--nproc", "2"], ["--batch"], ["--estimate"]])
def test_predict_on_ray_refuses_unsupported_options(more: list[str]) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sentikit",
            "predict",
            "runs/none",
            "x.parquet",
            "--on",
            "ray",
            "--output",
            "labelled",
            *more,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert more[0] in done.stderr
