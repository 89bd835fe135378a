"""Labelling on a real Ray cluster of two workers on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from llm_fixtures import PRICES, serving
from prompt_commands import texts, write_recipe

import sentikit
from sentikit import InputError
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
    done = subprocess.run(
        [sys.executable, "-m", "sentikit", "predict-on-ray", *arguments],
        capture_output=True,
        text=True,
    )
    done.stderr = without_waiting(done.stderr)
    return done


def without_waiting(errors: str) -> str:
    """Leave out that the stub's plugin, which imports Ray, loads slowly on a busy machine."""
    lines = errors.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("Waiting for the plugin"))


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


def test_columns_are_joined_and_paths_lead_into_structs(trained_run: Path) -> None:
    from sentikit.ray import Labeller

    bodies = ["not worth a cent", "good food", None]
    review = pa.array([{"title": "A table", "body": body} for body in bodies])
    table = pa.table({"title": ["I love it", None, " "], "review": review})
    columns = ("title", "review.body")
    found = Labeller(str(trained_run), columns)(table)
    joined = pa.table({"text": ["I love it\nnot worth a cent", "good food", None]})
    expected = Labeller(str(trained_run))(joined)
    added = expected.column_names[1:]
    assert found.select(added).to_pylist() == expected.select(added).to_pylist()
    assert found["predicted_label"].to_pylist()[2] is None
    assert Labeller(str(trained_run), columns)(table.slice(0, 0)).column_names == found.column_names
    with pytest.raises(InputError, match=r"'review' holds .* Name a field inside it: review.title"):
        Labeller(str(trained_run), "review")(table)


STUB = '''
"""The classifier `stub`: slow by the part, it notes what it is given and where it runs."""
import json, os, time
import ray
from sentikit import Example, Prediction, hookimpl
from sentikit.extension import PluginClassifier


class Stub(PluginClassifier):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        # In a worker: the command itself makes a classifier to see whether it asks an LLM.
        if os.environ.get("STUB_DIES") == "starting" and ray.is_initialized():
            os._exit(3)

    def classify(self, examples, session=None):
        texts = [one.text if isinstance(one, Example) else one for one in examples]
        if os.environ.get("STUB_DIES") == "labelling" and "poison" in texts:
            os._exit(3)
        environment = ray.get_runtime_context().runtime_env.to_dict()
        with open(f"notes-{os.getpid()}.jsonl", "a") as notes:
            notes.write(json.dumps({"rows": len(texts), "environment": environment}) + "\\n")
        time.sleep(0.4)
        for text in texts:
            yield Prediction(self.labels[len(text) % 3], None)


@hookimpl
def register_classifiers(register):
    register("stub", Stub, summary="notes what it is given")
'''


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "stub_plugin.py"
    plugin.write_text(STUB)
    monkeypatch.setenv("SENTIKIT_PLUGINS", str(plugin))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-kept-at-home")


def write_texts(path: Path, texts: list[str]) -> None:
    """Write a file of a single row group."""
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), path)


def addresses_of(driver: int) -> set[str]:
    """Return the addresses at which a process and its descendants listen."""
    import psutil

    found = set()
    parent = psutil.Process(driver)
    for process in [parent, *parent.children(recursive=True)]:
        try:
            found |= {c.laddr.ip for c in process.net_connections("inet") if c.status == "LISTEN"}
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("stub")
def test_both_workers_share_a_single_file_and_listen_only_on_loopback() -> None:
    write_texts(Path("one.parquet"), [f"text {number}" for number in range(40_000)])
    command = [*SENTIKIT, "predict-on-ray", "stub", "one.parquet", "--output", "out"]
    listening = set()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            listening |= addresses_of(process.pid)
            time.sleep(0.5)
        assert process.stderr is not None
        # Nothing of Ray's own: no warning of a deprecated argument, no progress, no dashboard.
        assert without_waiting(process.stderr.read()) == (
            "40,000 rows in 40 parts at out.\n"
            "40,000 of 40,000 rows labelled: 22.5% negative, 75.2% neutral, 2.2% positive "
            "(uncorrected).\n"
            "To correct the shares with checked texts: sentikit estimate out --checked "
            "CHECKED.csv\n"
        )
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}
    parts = [pq.read_table(f"out/{name}") for name in contents(Path("out"))]
    assert pa.concat_tables(parts).column("id").to_pylist() == list(range(40_000))
    notes = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in Path().glob("notes-*.jsonl")
    ]
    shares = [sum(note["rows"] for note in own) / 40_000 for own in notes]
    assert len(shares) == 2
    assert min(shares) > 0.4
    assert "sk-kept-at-home" not in json.dumps(notes)
    left = {path.name for path in Path("out").iterdir()}
    assert left == {".lock", "job.json", *contents(Path("out"))}


@pytest.mark.slow
@pytest.mark.usefixtures("stub")
def test_a_job_that_runs_is_not_resumed_by_a_second_command() -> None:
    write_texts(Path("one.parquet"), [f"text {number}" for number in range(12_000)])
    command = ["stub", "one.parquet", "--output", "out"]
    with subprocess.Popen(
        [*SENTIKIT, "predict-on-ray", *command], stderr=subprocess.PIPE, text=True
    ) as first:
        while not contents(Path("out")):
            assert first.poll() is None
            time.sleep(0.05)
        second = on_ray(*command, "--resume")
        assert first.poll() is None
        assert first.stderr is not None
        messages = first.stderr.read()
    assert second.returncode == 2
    assert second.stderr == (
        "Error: out is in use by another sentikit process. Wait for it, or choose another "
        "--output.\n"
    )
    assert first.returncode == 0, messages
    assert len(contents(Path("out"))) == 12


@pytest.mark.slow
@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(
    ("dies", "message"),
    [
        ("labelling", "Part 1: 3 workers died labelling it: memory may be short"),
        ("starting", "Every worker died while loading the classifier"),
    ],
)
def test_workers_that_always_die_end_the_job_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, dies: str, message: str
) -> None:
    write_texts(Path("one.parquet"), [*(["a text"] * 1500), "poison", *(["b"] * 1500)])
    monkeypatch.setenv("STUB_DIES", dies)
    done = on_ray("stub", "one.parquet", "--output", "out")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
    assert {path.name for path in Path("out").glob(".*")} == {".lock"}
    if dies == "labelling":
        monkeypatch.delenv("STUB_DIES")
        kept = contents(Path("out"))
        resumed = on_ray("stub", "one.parquet", "--output", "out", "--resume")
        assert resumed.returncode == 0, resumed.stderr
        final = contents(Path("out"))
        assert len(final) == 3
        assert {name: final[name] for name in kept} == kept


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_reported_and_leaves_the_output_folder_free() -> None:
    write_texts(Path("one.parquet"), ["a text"])
    Path("empty").mkdir()
    done = on_ray("empty", "one.parquet", "--output", "out")
    assert done.returncode == 2
    assert "empty is neither a run nor a model folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not Path("out").exists()


def test_a_missing_key_is_reported_before_anything_is_started_or_written() -> None:
    write_texts(Path("one.parquet"), ["a text"])
    done = on_ray("b3-gpt-4o-mini-zero-shot", "one.parquet", "--output", "out")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: There is no key for OpenAI. Set OPENAI_API_KEY")
    assert not Path("out").exists()


@pytest.mark.parametrize("device", ["auto", "cuda"])  # which only the workers need to have
def test_an_unreachable_cluster_is_reported_in_one_sentence(device: str, trained_run: Path) -> None:
    write_texts(Path("one.parquet"), ["a text"])
    words = ["--output", "out", "--address", "127.0.0.1:1", "--device", device]
    done = on_ray(str(trained_run), "one.parquet", *words)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: The cluster at 127.0.0.1:1 cannot be reached: [Errno 111] Connection refused\n"
    )


def test_ray_failing_to_start_is_reported_in_one_sentence(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**given: object) -> None:
        raise RuntimeError("Traceback of Ray\nThe object store needs more shared memory.")

    write_texts(Path("one.parquet"), ["a text"])
    monkeypatch.setattr("ray.init", fail)
    done = CliRunner().invoke(
        cli, ["predict-on-ray", str(trained_run), "one.parquet", "--output", "out"]
    )
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: Ray does not start: The object store needs more shared memory.\n"
    )


def job_of(path: Path, rows_per_part: int | None = None) -> Any:
    from sentikit.plugins.ray_data.job import Job

    return Job("runs/none", path, Path("out"), None, rows_per_part, None, "auto")


def test_a_refusal_keeps_the_answers_that_were_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentikit.plugins.ray_data import labelling

    write_texts(tmp_path / "one.parquet", ["a"])
    monkeypatch.setattr(labelling, "_cluster", lambda *_: nullcontext())
    job = job_of(tmp_path / "one.parquet")

    def pay(*_: object) -> int:
        (job.output / "answers.sqlite").touch()
        raise InputError("Part 1: another.parquet cannot be read")

    monkeypatch.setattr(labelling, "_label", pay)
    with pytest.raises(InputError, match="cannot be read"):
        labelling.run(job, 1, None, False, lambda: False)
    monkeypatch.setattr(labelling, "_label", lambda *_: 0)
    assert labelling.run(job, 1, None, True, lambda: False).parts == 1


def test_a_running_job_is_locked_against_a_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentikit.plugins.ray_data import labelling

    write_texts(tmp_path / "one.parquet", ["a"])
    monkeypatch.setattr(labelling, "_cluster", lambda *_: nullcontext())
    job = job_of(tmp_path / "one.parquet")

    def label(*_: object) -> int:
        for resume in (True, False):
            with pytest.raises(InputError, match="out is in use by another sentikit process"):
                labelling.run(job, 1, None, resume, lambda: False)
        return 0

    monkeypatch.setattr(labelling, "_label", label)
    labelling.run(job, 1, None, False, lambda: False)
    monkeypatch.setattr(labelling, "_label", lambda *_: 0)
    labelling.run(job, 1, None, True, lambda: False)


def test_starts_of_killed_jobs_do_not_count_as_deaths_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentikit.plugins.ray_data import labelling

    write_texts(tmp_path / "one.parquet", ["a"])
    monkeypatch.setattr(labelling, "_cluster", lambda *_: nullcontext())
    job = job_of(tmp_path / "one.parquet")
    counters = [job.output / ".part-000000.attempts", job.output / ".starts"]

    def kill(*_: object) -> int:
        assert not any(counter.exists() for counter in counters)
        return 0

    monkeypatch.setattr(labelling, "_label", kill)
    labelling.run(job, 1, None, False, lambda: False)
    for counter in counters:
        counter.write_bytes(b"...")
    labelling.run(job, 1, None, True, lambda: False)


@pytest.mark.parametrize(
    ("rows", "parts", "largest"),
    [(500, 1, 500), (50_000, 49, 1024), (400_000, 256, 1563)],
)
def test_the_parts_of_a_file_depend_only_on_its_number_of_rows(
    tmp_path: Path, rows: int, parts: int, largest: int
) -> None:
    from sentikit.plugins.ray_data.job import parts_of

    write_texts(tmp_path / "one.parquet", ["a"] * rows)
    found = parts_of(job_of(tmp_path / "one.parquet"))
    assert len(found) == parts
    assert max(part.stop - part.start for part in found) == largest
    assert [part.start for part in found[1:]] == [part.stop for part in found[:-1]]
    assert found[-1].stop == rows


@pytest.mark.parametrize(
    ("device", "workers", "gpus", "expected"),
    [
        ("cuda", 2, 2.0, 1),
        ("cuda:1", 2, 2.0, 1),
        ("auto", 2, 2.0, 1),
        ("auto", 2, 1.0, None),
        ("auto", 2, 0.0, None),
        ("cpu", 2, 2.0, None),
    ],
)
def test_workers_ask_ray_for_the_gpus_it_would_hide(
    device: str, workers: int, gpus: float, expected: int | None
) -> None:
    from sentikit.plugins.ray_data.labelling import gpus_per_worker

    assert gpus_per_worker(device, workers, {"CPU": 4.0, "GPU": gpus}) == expected


@pytest.mark.slow
def test_two_ray_workers_of_which_one_is_killed_write_the_same_bytes_as_one(
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
        errors = process.stderr.read()
    assert worker, "no worker was found to kill"
    assert process.returncode == 0, errors
    assert contents(Path("both")) == expected


@pytest.mark.slow
def test_the_summary_of_a_ray_job_is_that_of_predict_and_names_a_command_that_corrects_it(
    trained_run: Path,
) -> None:
    rows = ["I love it", "not worth a cent", None, " ", "?!", "the room was bad " * 300]
    pq.write_table(pa.table({"text": [*rows, "電影很好看"]}), "in.parquet")
    Path("checked.csv").write_text("text,label\nI love it,positive\nnot worth a cent,negative\n")
    messages = []
    for more in (["--output", "one.parquet"], ["--output", "out", "--on", "ray"]):
        words = [*SENTIKIT, "predict", str(trained_run), "in.parquet", *more]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        messages.append(done.stderr)
    assert "5 of 7 rows labelled, 1 of them without words: " in messages[0]
    assert "2 rows have no text" in messages[0]
    assert "1 text has more than 64 word pieces; the end was ignored." in messages[0]
    assert "1 text has mostly characters that the model does not know" in messages[0]
    assert messages[1] == "7 rows in 1 parts at out.\n" + messages[0].replace("one.parquet", "out")
    correct = [*SENTIKIT, "estimate", "out", "--checked", "checked.csv"]
    assert "positive" in subprocess.run(correct, capture_output=True, text=True, check=True).stdout


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
    assert "started with another" in other.stderr
    done = on_ray(*command, "--resume")
    assert done.returncode == 0, done.stderr
    final = contents(Path("labelled"))
    assert len(final) == 6
    assert {name: final[name] for name in kept} == kept


def recipe_for(url: str) -> str:
    """Write a prompt recipe whose own split is not what is labelled."""
    return write_recipe(url, ["I love it"], prices=PRICES)


@pytest.mark.slow
def test_failed_rows_are_counted_with_exit_1_and_resume_queries_only_them() -> None:
    rows = texts(40)
    pq.write_table(pa.table({"text": rows}), "in.parquet")
    with serving(fault_words={"number 13": "400:No.", "number 27": "400:No."}) as s:
        command = [recipe_for(s.url), "in.parquet", "--output", "out", "--rows-per-part", "10"]
        failed = on_ray(*command)
        assert failed.returncode == 1
        assert "40 rows in 4 parts at out." in failed.stderr
        last = failed.stderr.strip().splitlines()[-1]
        assert last == (
            "2 rows have failed and no label (see error). Retry them: sentikit predict-on-ray "
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
def test_all_workers_share_one_budget_and_never_exceed_it() -> None:
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
        billed = sum(s.server.billed.values()) / 1e6
    assert f"60 of 60 rows answered by an LLM, ${billed:.4f} paid." in done.stderr
    assert len(labelled("out")) == 60


def labelled(folder: str) -> list[dict[str, str]]:
    return [row for path in sorted(Path(folder).glob("*.parquet")) for row in rows_of(path)]


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(pq.read_table(path).to_pylist())


def test_without_ray_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for command in (["predict-on-ray"], ["predict", "--on", "ray"]):
        done = CliRunner().invoke(cli, [*command, "runs/none", "x.parquet", "--output", "out"])
        assert done.exit_code == 2
        assert "pip install 'sentikit[ray]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "one.parquet"], "none"),
        (["run", "one.parquet", "--text-column", "body"], "one.parquet has no column 'body'"),
        (
            ["run", "nested.parquet"],
            "the column 'text' has values of type struct<body: string> instead of texts. Name a "
            "field inside it: text.body.",
        ),
        (["run", "none.parquet"], "none.parquet does not exist."),
        (["run", "folder"], "folder holds no .parquet file."),
        (["run", "."], "--output out is inside the input."),
    ],
)
@pytest.mark.posix
def test_mistakes_are_refused_before_ray_starts(
    trained_run: Path, arguments: list[str], message: str
) -> None:
    Path("run").symlink_to(trained_run)
    Path("folder").mkdir()
    write_texts(Path("one.parquet"), ["a text"])
    pq.write_table(pa.table({"text": [{"body": "a text"}]}), "nested.parquet")
    done = CliRunner().invoke(cli, ["predict-on-ray", *arguments, "--output", "out"])
    assert done.exit_code == 2
    assert message in done.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize("command", [["predict-on-ray"], ["predict", "--on", "ray"]])
def test_input_other_than_parquet_is_refused_on_ray(
    trained_run: Path, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "reviews.csv").write_text("text\nI love it\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sentikit",
            *command,
            str(trained_run),
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


def test_predict_on_ray_checks_every_text_column(trained_run: Path) -> None:
    pq.write_table(pa.table({"title": ["A"], "body": ["a text"]}), "one.parquet")
    words = ["predict", str(trained_run), "one.parquet", "--on", "ray", "--output", "out"]
    for columns, unknown in ((("titel", "body"), "titel"), (("title", "bode"), "bode")):
        given = [word for column in columns for word in ("--text-column", column)]
        done = CliRunner().invoke(cli, [*words, *given])
        assert done.exit_code == 2
        assert f"has no column {unknown!r} for the text. Did you mean" in done.stderr


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
