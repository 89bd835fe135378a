"""`predict`, `evaluate` and `runs`: files and pipes labelled, models judged, runs listed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import sentikit as toolkit
from sentikit.classifiers.encoder_classifier import FIRST_WINDOW, EncoderClassifier
from sentikit.classifiers.plugin_classifier import MODEL_FORMAT
from sentikit.cli import sentikit
from sentikit.labelling.table_writer import written_kind


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, reviews: Path) -> Path:
    """A run that trained the tiny encoder."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["train", "--recipe", "minilm", "--output", str(folder / "run")]
    for setting in (
        f"dataset={{name: files, train: {reviews}/train.csv, "
        f"validation: {reviews}/validation.csv, test: {reviews}/test.csv}}",
        f"encoder={{name: transformers, model: {tiny_encoder}}}",
        "training.lr=3e-3",
        "training.epochs=4",
    ):
        words += ["--set", setting]
    result = CliRunner().invoke(sentikit, words)
    assert result.exit_code == 0, result.output
    return folder / "run"


def predict(*arguments: str, typed: str | bytes | None = None) -> Result:
    return CliRunner().invoke(sentikit, ["predict", *arguments], input=typed)


def test_a_pipe_of_lines_gets_labels_in_order(model: Path) -> None:
    result = predict(str(model), typed="the film was great\nthe room was awful\n")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["text"] for row in rows] == ["the film was great", "the room was awful"]
    assert [row["predicted_label"] for row in rows] == toolkit.load(model).predict(
        ["the film was great", "the room was awful"]
    )
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_csv_keeps_its_columns_order_and_odd_cells(model: Path) -> None:
    rows = [
        {"stars": "5", "Review": 'the "film", was\ngreat', "date": "2026-01-01"},
        {"stars": "", "Review": "the food was bad", "date": "ünicode"},
    ]
    with Path("in.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    result = predict(str(model), "in.csv", "--output", "out.csv")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    with Path("out.csv").open(newline="") as stream:
        written = list(csv.DictReader(stream))
    assert [{k: row[k] for k in rows[0]} for row in written] == rows
    assert list(written[0])[3:] == [
        "predicted_label",
        "probability_negative",
        "probability_neutral",
        "probability_positive",
    ]


def test_json_lines_keep_every_key(model: Path) -> None:
    rows = [{"text": "the film was great", "meta": {"a": [1, None]}}, {"text": "bad", "extra": 2.5}]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = predict(str(model), "in.jsonl")
    written = [json.loads(line) for line in result.stdout.splitlines()]
    for row, out in zip(rows, written, strict=True):
        assert row.items() <= out.items()


def test_values_without_a_json_form_are_written_as_null(model: Path) -> None:
    table = pa.table({"text": ["fine", "bad"], "stars": [math.nan, 2.5], "all": [[math.inf], [1]]})
    pq.write_table(table, "in.parquet")
    result = predict(str(model), "in.parquet")
    assert "NaN" not in result.stdout
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["stars"], first["all"]) == (None, [None])
    assert (second["stars"], second["all"]) == (2.5, [1])


def test_a_column_that_appears_late_is_not_lost(model: Path) -> None:
    rows = [{"text": "fine"}] * 101 + [{"text": "bad", "extra": 2.5}]
    Path("late.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = predict(str(model), "late.jsonl", "--format", "csv", "--output", "late.csv")
    assert result.exit_code == 2
    assert "'extra' comes too late" in result.stderr
    assert "--format jsonl" in result.stderr
    assert not Path("late.csv").exists()


def test_rows_without_text_get_no_label_and_are_counted(model: Path) -> None:
    Path("in.csv").write_text("id,text\n1,the film was great\n2,\n3,  \n")
    result = predict(str(model), "in.csv")
    written = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [bool(row["predicted_label"]) for row in written] == [True, False, False]
    assert "2 rows have no text" in result.stderr


@pytest.mark.parametrize(
    ("content", "arguments", "expected"),
    [
        ("a,b\n1,2\n", [], "--text-column"),
        ("review,text_1\nx,y\n", ["--text-column", "revew"], "'review'"),
        ("text,predicted_label\nx,y\n", [], "already has a column 'predicted_label'"),
        ('text\nfine\n"open\n', [], "line 3"),
        ("", [], "empty"),
    ],
)
def test_unusable_tables_are_refused_and_nothing_is_written(
    model: Path, content: str, arguments: list[str], expected: str
) -> None:
    Path("in.csv").write_text(content)
    result = predict(str(model), "in.csv", "--output", "out.csv", *arguments)
    assert result.exit_code == 2, result.output
    assert expected in result.stderr
    assert not Path("out.csv").exists()


def unloadable_model() -> None:
    """Write a model folder that is recognised and cannot be loaded."""
    Path("unloadable").mkdir()
    Path("unloadable/config.json").write_text(json.dumps({"format": MODEL_FORMAT}))


@pytest.mark.parametrize(
    ("content", "expected"), [(b"text\n", "has no rows"), (b"text\ncaf\xe9\n", "is not UTF-8")]
)
def test_a_table_without_a_readable_row_is_refused_before_the_model_is_loaded(
    content: bytes, expected: str
) -> None:
    unloadable_model()
    Path("in.csv").write_bytes(content)
    result = predict("unloadable", "in.csv", "--output", "out.csv")
    assert result.exit_code == 2, result.output
    assert expected in result.stderr
    assert not Path("out.csv").exists()


def test_evaluating_from_python_equals_the_command(trained_run: Path, reviews: Path) -> None:
    section = {"name": "files", "test": f"{reviews}/test.csv"}
    done = toolkit.evaluate(trained_run, section, output="own", device="cpu")
    words = ["evaluate", str(trained_run), "--dataset", "files", "--device", "cpu"]
    words += ["--set", f"test={reviews}/test.csv", "--output", "typed"]
    assert CliRunner().invoke(sentikit, words).exit_code == 0
    for name in ("metrics.json", "predictions.jsonl"):
        assert Path("own", name).read_bytes() == Path("typed", name).read_bytes()
    assert done.path == Path("own")
    without = toolkit.evaluate(trained_run, split="validation", device="cpu")
    assert without.path is None
    assert without.scores is not None
    with pytest.raises(toolkit.InputError, match="already holds another run"):
        toolkit.evaluate(trained_run, section, output="own")
    with pytest.raises(toolkit.InputError, match="Set output"):
        toolkit.evaluate(trained_run, section, resume=True)
    with pytest.raises(toolkit.InputError, match="has no name"):
        toolkit.evaluate(trained_run, {"test": "x.csv"}, path="data")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "."], "'.' is a directory"),
        (["--output", "labelled.xlsx"], "Use .csv, .tsv or .jsonl"),
        (["--output", "labelled.csv.xz"], "files cannot be written. Use .gz"),
        (["--output", "l.csv.bz2", "--format", "csv"], "files cannot be written. Use .gz"),
        (["--output", "labelled.tsv.ZST"], "files cannot be written. Use .gz"),
        (["--device", "meta"], "is not a device. Use cpu, cuda"),
    ],
)
def test_an_unusable_output_or_device_is_reported_first(
    model: Path, arguments: list[str], message: str
) -> None:
    Path("in.csv").write_text("text\nthe film was great\n")
    result = predict(str(model), "in.csv", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout
    assert not Path("labelled.xlsx").exists()


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.csv.bz2", "in.csv.xz", "in.csv.zst"])
def test_standard_output_has_the_inputs_format_whatever_its_compression(name: str) -> None:
    assert written_kind(None, name) == "csv"


def test_an_output_that_ends_in_gz_is_compressed_and_always_the_same(model: Path) -> None:
    Path("in.csv").write_text("text\nthe film was great\n")
    for name in ("plain.csv", "one.csv.gz", "two.csv.gz"):
        assert predict(str(model), "in.csv", "--output", name).exit_code == 0
    assert gzip.decompress(Path("one.csv.gz").read_bytes()) == Path("plain.csv").read_bytes()
    assert Path("one.csv.gz").read_bytes() == Path("two.csv.gz").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["in.csv", "--output", "out.tsv"], "text\tstars\tpredicted_label\t"),
        (["in.csv", "--output", "out.tsv.gz"], "text\tstars\tpredicted_label\t"),
        (["in.csv", "--output", "out.txt", "--format", "csv"], "text,stars,predicted_label,"),
        (["in.csv", "--output", "out.jsonl"], '{"text": "the film was great"'),
        (["in.csv", "--format", "tsv", "--output", "out.csv"], "text\tstars\tpredicted_label\t"),
        (["in.csv"], "text,stars,predicted_label,"),
        (["in.tsv"], "text\tstars\tpredicted_label\t"),
        (["in.tsv", "--format", "csv"], "text,stars,predicted_label,"),
    ],
)
def test_the_output_format_is_the_given_one_or_follows_the_outputs_name_or_the_input(
    model: Path, arguments: list[str], first: str
) -> None:
    Path("in.csv").write_text("text,stars\nthe film was great,5\n")
    Path("in.tsv").write_text("text\tstars\nthe film was great\t5\n")
    result = predict(str(model), *arguments)
    assert result.exit_code == 0, result.output
    written = result.stdout
    if "--output" in arguments:
        path = Path(arguments[arguments.index("--output") + 1])
        content = path.read_bytes()
        written = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    assert written.startswith(first)


@pytest.mark.posix
def test_the_input_file_is_not_overwritten(model: Path) -> None:
    Path("in.csv").write_text("text\nthe film was great\n")
    Path("link.csv").symlink_to("in.csv")
    for output in ("in.csv", "./in.csv", "link.csv"):
        result = predict(str(model), "in.csv", "--output", output)
        assert result.exit_code == 2
        assert "is also read or written by this command" in result.stderr
    assert Path("in.csv").read_text() == "text\nthe film was great\n"


def test_file_suffixes_are_case_insensitive(model: Path) -> None:
    Path("in.csv").write_text("text\nthe film was great\n")
    assert predict(str(model), "in.csv", "--output", "OUT.CSV").exit_code == 0
    assert Path("OUT.CSV").read_text().startswith("text,predicted_label,")


def test_a_single_string_is_refused_as_a_list_of_texts(model: Path) -> None:
    with pytest.raises(toolkit.InputError, match="texts must be a list of strings"):
        toolkit.load(model).predict("I love it")


def test_evaluate_refuses_bad_input_before_computing(model: Path) -> None:
    words = ["evaluate", str(model), "--dataset", "demo"]
    other = CliRunner().invoke(sentikit, [*words, "--set", "labels=bin_neg"])
    assert other.exit_code == 2
    assert "those of the dataset non-negative, negative" in other.stderr
    Path("taken").mkdir()
    Path("taken/manifest.json").write_text('{"kind": "train", "status": "finished"}')
    taken = CliRunner().invoke(sentikit, [*words, "--output", "taken"])
    assert taken.exit_code == 2
    assert "another run" in taken.stderr


def test_a_foreign_manifest_does_not_break_run_lookup(model: Path) -> None:
    Path("extension").mkdir()
    Path("extension/manifest.json").write_text("[1, 2]")
    listed = CliRunner().invoke(sentikit, ["runs", "list", "."])
    assert listed.exit_code == 0, listed.output
    shown = CliRunner().invoke(sentikit, ["runs", "show", "extension"])
    assert shown.exit_code == 2
    assert "is not the manifest of a run" in shown.stderr


def test_missing_models_and_files_are_named(model: Path, tmp_path: Path) -> None:
    assert "does not exist" in predict("nowhere", typed="x\n").stderr
    assert "does not exist" in predict(str(model), "nowhere.csv").stderr
    assert "does not exist" in predict(str(model), "nowhere.csv", "--nproc", "2").stderr
    (tmp_path / "empty").mkdir()
    assert "neither a run nor a model" in predict("empty", typed="x\n").stderr


def test_the_runs_of_a_folder_are_named_when_it_is_given_in_place_of_one(model: Path) -> None:
    for name in ("one", "two"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "manifest.json").write_text("{}")
    assert "Did you mean runs/one or runs/two?" in predict("runs", typed="x\n").stderr


def test_an_unfinished_run_has_no_model(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for kind, status, message in (
        ("train", "interrupted", "run has no model yet: its status is interrupted. Finish it with"),
        ("finetune", "finished", "run is a fine-tuned LLM, which needs a prompt recipe"),
        ("prompt", "finished", "manifest.json has no recipe"),
    ):
        manifest = {"kind": kind, "status": status}
        (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
        result = predict("run", typed="x\n")
        assert (result.exit_code, message in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pooling": "Mean"}, "config.json: pooling"),
        ({"temperature": -1}, "config.json: temperature"),
        ({"temperature": "x"}, "config.json: temperature"),
        ({"classes": ["a", "a", "b"]}, "config.json: classes"),
        ({"classes": "abc"}, "config.json: classes"),
        ({"classes": None}, "config.json: classes"),
        ({"max_length": 0}, "config.json: max_length"),
        ({"max_length": None}, "config.json: max_length"),
        ({"head": {}}, "config.json: head"),
        ({"encoder": []}, "config.json: encoder"),
        ({"version": "1"}, "model version '1'"),
    ],
)
def test_a_model_with_a_corrupt_config_is_refused(
    model: Path, changed: dict[str, Any], message: str
) -> None:
    shutil.copytree(model / "model", "spoilt")
    config = json.loads(Path("spoilt/config.json").read_text())
    Path("spoilt/config.json").write_text(json.dumps(config | changed))
    result = predict("spoilt", typed="fine\n")
    assert result.exit_code == 2
    assert message in result.stderr


def test_texts_longer_than_the_models_positions_are_cut(model: Path) -> None:
    shutil.copytree(model / "model", "long")
    config = json.loads(Path("long/config.json").read_text())
    Path("long/config.json").write_text(json.dumps(config | {"max_length": 100_000}))
    result = predict("long", typed="fine " * 5000 + "\n")
    assert result.exit_code == 0, result.output


def test_a_model_with_damaged_weights_is_refused(model: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(model / "model", tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = predict("copy", typed="x\n")
    assert result.exit_code == 2
    assert "damaged or truncated" in result.stderr
    weights.rename(weights.with_name("pytorch_model.bin"))
    assert "pickled" in predict("copy", typed="x\n").stderr


def test_the_python_interface_is_that_of_scikit_learn(model: Path) -> None:
    classifier = toolkit.load(model)
    texts = ["the film was great", "the food was awful", "opens at nine"]
    probabilities = classifier.predict_proba(texts)
    assert probabilities.shape == (3, 3)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    best = [classifier.labels[column] for column in probabilities.argmax(axis=1)]
    assert classifier.predict(texts) == best
    assert [p.label for p in classifier.classify(texts)] == best
    assert classifier.predict([]) == []
    assert classifier.predict_proba([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        ("I love it", "texts must be a list of strings"),
        (["great", None], "Item 1 (from 0) is None, not a string"),
        (["great"] * 300 + ["\ud800"], "Item 300 (from 0) is not valid Unicode"),
    ],
)
def test_inputs_that_are_no_text_are_named(model: Path, texts: list[str], fault: str) -> None:
    with pytest.raises(toolkit.InputError) as refused:
        toolkit.load(model).predict(texts)
    assert fault in refused.value.message


def test_classify_reads_three_windows_ahead_at_most(model: Path) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "the film was great"

    predictions = toolkit.load(model).classify(endless())
    next(predictions)
    # One window is computed, one tokenised and one read: 256, 512 and 1,024 texts at first.
    assert read <= 256 + 512 + 1024


def test_an_abandoned_prediction_stops_after_its_current_batch(model: Path) -> None:
    classifier = toolkit.load(model)
    assert isinstance(classifier, EncoderClassifier)
    computed = classifier.predictor.logits
    stopped, batches = threading.Event(), 0

    def counted(given: Any) -> Any:
        def taken() -> Any:
            nonlocal batches
            for batch in given:
                batches += 1
                yield batch
                stopped.set()

        return computed(taken())

    classifier.predictor.logits = counted  # type: ignore[method-assign]
    texts = [f"film {number} was great" for number in range(4000)]
    with pytest.raises(CancelledError):
        classifier.logits_of_texts(texts, stopped)
    assert batches == 1


def test_labels_do_not_depend_on_order_or_batch(model: Path) -> None:
    classifier = toolkit.load(model)
    texts = [f"the {'very ' * (n % 40)}film was {'great' if n % 3 else 'bad'}" for n in range(700)]
    together = classifier.predict_proba(texts)
    backwards = classifier.predict_proba(texts[::-1])[::-1]
    assert together == pytest.approx(backwards, abs=1e-5)


def test_evaluate_prints_scores_and_writes_a_run_on_request(model: Path, reviews: Path) -> None:
    words = ["evaluate", str(model), "--dataset", "files", "--set", f"test={reviews}/test.csv"]
    result = CliRunner().invoke(sentikit, [*words, "--json", "--output", "judged"])
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    trained = json.loads((model / "metrics.json").read_text())
    assert scores["overall"]["macro_f1"] == pytest.approx(trained["overall"]["macro_f1"])
    assert json.loads(Path("judged/metrics.json").read_text()) == scores
    assert json.loads(Path("judged/manifest.json").read_text())["status"] == "finished"
    assert len(Path("judged/predictions.jsonl").read_text().splitlines()) == 48
    again = CliRunner().invoke(sentikit, [*words, "--output", "judged"])
    assert again.exit_code == 2
    assert "already holds another run" in again.stderr


def test_the_command_that_evaluate_suggests_works(model: Path) -> None:
    Path("a.csv").write_text("text,label\nthe film was great,good\n")
    words = ["evaluate", str(model), "--dataset", "files", "--set", "test=a.csv"]
    refused = CliRunner().invoke(sentikit, words)
    assert "with dataset.label_map={'good': CLASS}" in refused.stderr
    for key in ("label_map", "dataset.label_map"):
        done = CliRunner().invoke(sentikit, [*words, "--set", f"{key}={{'good': negative}}"])
        assert done.exit_code == 0, done.stderr
    whole = CliRunner().invoke(sentikit, [*words, "--set", "dataset={name: demo}"])
    assert "Set its keys instead, such as labels=five" in whole.stderr


def test_evaluate_names_unknown_splits_and_datasets(model: Path) -> None:
    result = CliRunner().invoke(sentikit, ["evaluate", str(model), "--split", "tset"])
    assert result.exit_code == 2
    assert "Give --split test, or score a file with" in result.stderr
    result = CliRunner().invoke(sentikit, ["evaluate", str(model), "--dataset", "dem"])
    assert "'demo'" in result.stderr


def test_runs_are_listed_and_shown(model: Path) -> None:
    listed = CliRunner().invoke(sentikit, ["runs", "list", str(model.parent), "--json"])
    (run,) = json.loads(listed.stdout)
    assert run["status"] == "finished"
    assert (
        run["macro_f1"] == json.loads((model / "metrics.json").read_text())["overall"]["macro_f1"]
    )
    shown = CliRunner().invoke(sentikit, ["runs", "show", str(model)])
    assert "best epoch" in shown.stdout
    assert "cinema" in shown.stdout
    record = json.loads((model / "manifest.json").read_text())
    record["cost_usd"] = {"llm": 0.25, "probing": None}
    shutil.copytree(model, "paid")
    Path("paid/manifest.json").write_text(json.dumps(record))
    paid = CliRunner().invoke(sentikit, ["runs", "show", "paid"])
    assert "cost usd       llm 0.25, probing unknown\n" in paid.stdout
    missing = CliRunner().invoke(sentikit, ["runs", "show", "nowhere"])
    assert missing.exit_code == 2
    assert "nowhere does not exist" in missing.stderr
    nowhere = CliRunner().invoke(sentikit, ["runs", "list", "nowhere"])
    assert nowhere.exit_code == 2
    assert "nowhere is not a folder" in nowhere.stderr


def test_a_misspelt_run_gets_a_suggestion(model: Path) -> None:
    shutil.copytree(model, "runs/whole")
    for name, message in (
        ("whole", "Did you mean runs/whole?"),
        ("whol", "mean runs/whole?"),
        ("runs/whol", "mean runs/whole?"),
    ):
        shown = CliRunner().invoke(sentikit, ["runs", "show", name])
        assert shown.exit_code == 2
        assert message in shown.stderr


@pytest.mark.parametrize(
    ("file", "content", "status"),
    [
        ("manifest.json", "{}", "damaged"),
        ("manifest.json", '{"half', "damaged"),
        ("metrics.json", '{"half', "finished"),
        ("metrics.json", "[1]", "finished"),
        ("metrics.json", '{"overall": null}', "finished"),
    ],
)
def test_a_damaged_run_is_listed_as_damaged_beside_the_others(
    model: Path, file: str, content: str, status: str
) -> None:
    for name in ("a", "b"):
        shutil.copytree(model, f"runs/{name}")
    Path("runs/a", file).write_text(content)
    listed = CliRunner().invoke(sentikit, ["runs", "list"])
    assert listed.exit_code == 0, listed.output
    assert f"runs/a is damaged: runs/a/{file}" in listed.stderr
    as_json = CliRunner().invoke(sentikit, ["runs", "list", "--json"])
    found = {run["path"]: run["status"] for run in json.loads(as_json.stdout)}
    assert found == {"runs/a": status, "runs/b": "finished"}
    assert CliRunner().invoke(sentikit, ["runs", "show", "runs/a"]).exit_code == 2


def test_the_reason_of_a_failed_run_is_stored_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sentikit.errors import SentikitError
    from sentikit.runs.folder import RunFolder

    monkeypatch.setenv("OWN_KEY", "a-secret-value")
    run = RunFolder(Path("run"))
    run.path.mkdir()
    run.update_manifest(kind="prompt", status="running")
    run.end(SentikitError("The server said: a-secret-value is wrong."))
    shown = CliRunner().invoke(sentikit, ["runs", "show", "run"])
    assert "The server said: [OWN_KEY] is wrong." in shown.stdout
    assert "a-secret-value" not in Path("run/manifest.json").read_text()
    run.update_manifest(status="running")
    assert "failure" not in run.manifest


@pytest.mark.parametrize("manifest", ["[]", '{"half', '{"dataset": "cinema"}'])
def test_foreign_manifests_do_not_break_the_list_of_runs(tmp_path: Path, manifest: str) -> None:
    run = tmp_path / "inside" / "run"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text('{"kind": "train", "status": "finished"}')
    (tmp_path / "manifest.json").write_text(manifest)
    listed = CliRunner().invoke(sentikit, ["runs", "list", str(tmp_path), "--json"])
    assert [found["path"] for found in json.loads(listed.stdout)] == [str(run)]
    shown = CliRunner().invoke(sentikit, ["runs", "show", str(tmp_path)])
    assert shown.exit_code == 2
    assert "manifest.json" in shown.stderr


@pytest.mark.slow
def test_a_long_pipe_is_labelled_in_flat_memory(model: Path) -> None:
    def peak(lines: int) -> int:
        program = (
            "import resource, sys; sys.argv = ['sentikit', 'predict', sys.argv[1]]\n"
            "from sentikit.cli import main\n"
            "try:\n    main()\n"
            "finally:\n    used = resource.getrusage(resource.RUSAGE_SELF)\n"
            "    print(used.ru_maxrss, file=sys.stderr)"
        )
        words = [sys.executable, "-c", program, str(model)]
        done = subprocess.run(
            words, input="the film was great\n" * lines, capture_output=True, text=True, check=True
        )
        assert done.stdout.count("\n") == lines
        return int(done.stderr.splitlines()[-1])

    small, large = peak(20_000), peak(60_000)
    assert large < small * 1.1


@pytest.mark.posix
def test_a_reader_may_close_the_pipe_halfway(model: Path) -> None:
    words = f"yes 'the film was great' | {sys.executable} -m sentikit predict {model} | head -3"
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.count("\n") == 3
    assert "Traceback" not in done.stderr


def test_a_program_that_waits_for_answers_before_it_sends_more_gets_them(model: Path) -> None:
    cascade = Path("two.yaml")
    members = f"[{model}, {model}]"
    cascade.write_text(f"kind: cascade\ncascade: {{members: {members}, thresholds: [0.5]}}\n")
    for classifier in (model, cascade):
        words = [sys.executable, "-m", "sentikit", "predict", str(classifier), "-"]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        end = threading.Timer(120, process.kill)
        end.start()
        for rows in (FIRST_WINDOW, FIRST_WINDOW, 1, 3):
            process.stdin.write("".join(f"the film was great {n}\n" for n in range(rows)))
            process.stdin.flush()
            answers = [json.loads(process.stdout.readline()) for _ in range(rows)]
            assert [row["text"] for row in answers] == [
                f"the film was great {n}" for n in range(rows)
            ]
        assert process.communicate(timeout=60)[0] == ""
        end.cancel()
        assert process.returncode == 0


@pytest.mark.posix
def test_a_terminated_prediction_leaves_no_partial_output(model: Path) -> None:
    words = [sys.executable, "-m", "sentikit", "predict", str(model), "--output", "out/labels.csv"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write("the film was great\n" * 20_000)
    process.stdin.flush()
    while not (Path("out").is_dir() and any(Path("out").iterdir())):
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert not any(Path("out").iterdir())


@pytest.mark.parametrize("kind", ["encoder", "plugin"])
@pytest.mark.parametrize("ordered", [True, False])
def test_ordered_classes_are_scored_as_ordered_also_by_a_saved_model(
    kind: str, ordered: bool, tiny_encoder: Path, reviews: Path
) -> None:
    recipe: dict[str, Any] = {
        "kind": "train",
        "dataset": {
            "name": "files",
            **{split: f"{reviews}/{split}.csv" for split in ("train", "validation", "test")},
            "labels": {"classes": ["low", "middle", "high"], "ordered": ordered},
            "label_map": {"negative": "low", "neutral": "middle", "positive": "high"},
        },
    }
    if kind == "plugin":
        recipe["classifier"] = {"name": "tfidf", "min_texts": 1}
    else:
        recipe["encoder"] = {"name": "transformers", "model": str(tiny_encoder)}
        recipe["head"] = {"name": "linear"}
        recipe["training"] = {"epochs": 1, "lr": 1e-3}
    Path("own.yaml").write_text(json.dumps(recipe))
    words = ["train", "--recipe", "own.yaml", "--output", "run"]
    settings = [f"--set=label_map={json.dumps(recipe['dataset']['label_map'])}"]
    for more in (
        words,
        ["evaluate", "run", "--output", "again"],
        # The model's own classes, not those of the run's dataset.
        ["evaluate", "run/model", "--dataset", "files", "--output", "copy", *settings,
         f"--set=test={reviews}/test.csv"],
    ):  # fmt: skip
        done = CliRunner().invoke(sentikit, more)
        assert done.exit_code == 0, done.output
    for run in ("run", "again", "copy"):
        metrics = json.loads(Path(run, "metrics.json").read_text())
        named = {"quadratic_weighted_kappa"} if ordered else set()
        assert set(metrics["overall"]["metrics"]) == named
        assert all(set(one["metrics"]) == named for one in metrics["by_source"].values())
    assert toolkit.load("run").scheme.ordered == ordered


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nofolder", "--dataset", "demo"], "nofolder does not exist."),
        (["unloadable", "--dataset", "demoo"], "Did you mean 'demo'?"),
        (["unloadable", "--dataset", "demo", "--split", "tset"], "has no split 'tset'"),
        (["unloadable", "--dataset", "files", "--set", "test=none.csv"], "none.csv does not exist"),
    ],
)
def test_missing_inputs_are_reported_before_torch_is_imported(
    arguments: list[str], message: str
) -> None:
    unloadable_model()
    program = (
        "import sys\nfrom sentikit.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    words = [sys.executable, "-c", program, "evaluate", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == "False False\n"


FORMULAS = ("=HYPERLINK(A1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1", "\uff1d1")
PLAIN = ("-5", "+1.5", "-2,5", "1=1", "a-b", "it's", "-1e-3", "")


def test_a_spreadsheet_safe_table_escapes_only_formulas(model: Path) -> None:
    cells = [*FORMULAS, *PLAIN]
    with Path("in.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["=note", "text"])
        writer.writerows([cell, "=the film was great"] for cell in cells)
    for arguments in (["out.csv"], ["out.tsv"]):
        done = predict(str(model), "in.csv", "--spreadsheet-safe", "--output", *arguments)
        assert done.exit_code == 0, done.output
        delimiter = "," if arguments == ["out.csv"] else "\t"
        with Path(arguments[0]).open(newline="") as stream:
            header, *rows = csv.reader(stream, delimiter=delimiter)
        assert header[:2] == ["'=note", "text"]
        assert [row[0] for row in rows] == [*(f"'{cell}" for cell in FORMULAS), *PLAIN]
        assert {row[1] for row in rows} == {"'=the film was great"}
        assert all(float(cell) <= 1 for row in rows for cell in row[3:])
    unchanged = predict(str(model), "in.csv")
    assert [row[0] for row in csv.reader(io.StringIO(unchanged.stdout))][1:] == cells
    refused = predict(str(model), "in.csv", "--spreadsheet-safe", "--format", "jsonl")
    assert refused.exit_code == 2
    assert "is for CSV and TSV, but the output is jsonl" in refused.stderr


def test_the_summary_counts_cut_texts_and_texts_of_unknown_tokens(
    model: Path,
) -> None:
    rows = ["fine", "the film was great " * 200, "the room was bad " * 300, "電影很好看"]
    Path("in.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    done = predict(str(model), "in.jsonl")
    assert done.exit_code == 0, done.output
    longest = json.loads((model / "model" / "config.json").read_text())["max_length"]
    assert f"2 texts have more than {longest} word pieces; the end was ignored." in done.stderr
    assert "1 text has mostly characters that the model does not know" in done.stderr
    plain = predict(str(model), typed="the film was great\n")
    assert "word pieces" not in plain.stderr
    assert "does not know" not in plain.stderr
