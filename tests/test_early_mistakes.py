"""Mistakes in files, columns and settings are reported before anything heavy is imported."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

#: Each takes the better part of a second, or more, to import.
HEAVY = ("torch", "transformers", "datasets", "scipy", "openai", "sklearn", "matplotlib")
#: Of the processor, on any machine.
MOST_SECONDS = 1.5
#: Runs the first command in this new process and each other in a fork of it, so that only the first
#: imports what all of them need.
PROGRAM = """
import json, os, resource, sys
from sentikit.cli import main

def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

imported = processor_seconds()

def run(number, words, before):
    for stream in (sys.stdout, sys.stderr):
        file = os.open(f"{sys.argv[1]}/{number}{stream.name}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, stream.fileno())
    code = 0
    try:
        main(words)
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with open(f"{sys.argv[1]}/{number}.json", "w") as report:
            json.dump([code, before + processor_seconds(), list(sys.modules)], report)

first, *others = json.load(sys.stdin)
run(0, first, 0)
for number, words in enumerate(others, 1):
    if not (child := os.fork()):
        run(number, words, imported)
        break
    os.waitpid(child, 0)
"""
FILES = "--dataset files --set"
TRAIN = "--recipe quickstart --set dataset.name=files --set dataset.validation_holdout=10%"
PROMPT = "--recipe current-zero-shot --set dataset.name=files"
#: By command: the arguments (RUN is a trained run), and the message.
MISTAKES: dict[str, tuple[tuple[str, str], ...]] = {
    "predict": (
        ("RUN gone.csv", "gone.csv does not exist"),
        ("RUN txts.csv", "txts.csv does not exist. Did you mean texts.csv?"),
        ("texts.csv RUN", "is a run. Give a file."),
        ("RUN texts.csv --text-column txet", "no column 'txet' for the text. Did you mean 'text'?"),
        ("RUN bars.csv --text-column text", "no column 'text' for the text. Known: body, label"),
        ("RUN stars.csv", "which column holds the text? It has 'stars'"),
        ("RUN what.xyz", "the format of this suffix is unknown"),
        ("RUN nested.jsonl", "holds a mapping instead of text. Name a field inside it: text.a"),
        ("RUN late.csv", "late.csv, line 602: 3 fields, but the header names 2 columns"),
        ("RUN late.jsonl", "late.jsonl, line 601: the column 'text' holds a list"),
        ("RUN lists.json", "holds several lists: 'data', 'more'"),
        ("RUN texts.csv --output bars.csv/x.csv", "is not writable (Not a directory)"),
        ("RUN texts.csv --output x.xlsx", ".xlsx files cannot be written"),
        ("RUN texts.csv --resume", "--resume needs --output"),
        ("RUN texts.csv --device tpu", "'tpu' is not a device"),
        ("RUN texts.csv --device cuda:9", "this machine has 0 CUDA devices"),
        ("RUN texts.csv --resume --output o.csv", "There is nothing to resume"),
        ("RUN texts.csv --batch", "--batch is for LLMs"),
        ("tfidf late.csv", "The recipe 'tfidf' has no finished run at runs/tfidf"),
        ("stopped late.csv", "stopped has no model yet: its status is interrupted"),
        ("vote.yaml late.csv", "runs/gone does not exist"),
        ("RUN texts.csv --label-map LABEL_0=negative", "defines its classes"),
        ("RUN texts.csv --on nowhere", "no engine named 'nowhere'"),
        ("runs/gone texts.csv", "runs/gone does not exist"),
        ("quickstar texts.csv", "Did you mean 'quickstart'?"),
        ("quickstart texts.csv", "has no finished run at runs/quickstart"),
        ("RUN --sql 'DROP TABLE x'", "exactly one SELECT"),
        ("RUN --sql \"SELECT * FROM 'gone.csv'\"", "gone.csv"),
        ("RUN --sql \"select txt from 'texts.csv'\"", '"txt" not found'),
        ("RUN --sql 'select 1 as text' --database gone.db", "gone.db does not exist"),
        ("RUN texts.csv --database gone.db", "--database needs --sql"),
        ("RUN texts.csv --input-format cvs", "There is no format 'cvs'. Did you mean 'csv'?"),
        ("RUN texts.csv --sheet One", "is no Excel workbook and has no sheets"),
        ("RUN broken.xlsx", "broken.xlsx is not an Excel workbook"),
        ("RUN *.doc", "No file matches *.doc"),
        ("RUN labelled.csv --output o.csv", "already has a column 'predicted_label'"),
        ("RUN texts.csv --output o.doc", "o.doc: .doc files cannot be written"),
        ("RUN texts.csv --output checked.csv", "checked.csv holds checks by people"),
        ("RUN texts.csv --revision main", "Leave out the revision"),
        ("RUN texts.csv --output o.parquet --spreadsheet-safe", "is for CSV and TSV"),
    ),
    "evaluate": (
        ("RUN --dataset dmeo", "Did you mean 'demo'?"),
        ("RUN --dataset texts.csv", "use the dataset 'files' with --set test=texts.csv"),
        (f"RUN {FILES} test=gone.csv", "gone.csv does not exist"),
        (f"RUN {FILES} test=texts.csv --set text=nope", "no column 'nope' for the text"),
        (f"RUN {FILES} test=texts.csv --set label=nope", "no column 'nope' for the label"),
        (f"RUN {FILES} test=nested.jsonl", "Name a field inside it: text.a"),
        (f"RUN {FILES} test=texts.csv --set 'label_map={{good: great}}'", "'great' is not a class"),
        (f"RUN {FILES} test=texts.csv --set label_map={{good:bad}}", "a space after a colon"),
        (f"RUN {FILES} test=texts.csv --set nope=1", "nope: unknown key"),
        (f"RUN {FILES} test=texts.csv --split tset", "has no split 'tset'"),
        ("RUN --dataset demo --set labels=[a,b]", "The model's classes are negative"),
        ("RUN --dataset demo --output bars.csv/x", "bars.csv/x cannot be written"),
        ("RUN --dataset demo --device cuda:9", "this machine has 0 CUDA devices"),
        ("runs/gone --dataset demo", "runs/gone does not exist"),
    ),
    "train": (
        ("--recipe quickstar", "Did you mean 'quickstart'?"),
        ("--recipe quickstart --set training.lrr=1", "unknown key. Did you mean 'lr'?"),
        ("--recipe quickstart --set head.name=nope", "no head named 'nope'"),
        ("--recipe quickstart --set encoder.name=nope", "no encoder named 'nope'"),
        (f"{TRAIN} --set dataset.train=gone.csv", "gone.csv does not exist"),
        (f"{TRAIN} --set dataset.train=texts.csv --set dataset.text=nope", "no column 'nope'"),
        (f"{TRAIN} --set dataset.train=nested.jsonl", "Name a field inside it: text.a"),
        (f"{TRAIN} --set dataset.test=texts.csv", "has no split 'train'"),
        (
            f"{TRAIN} --set dataset.train=texts.csv --set 'dataset.label_map={{good: great}}'",
            "'great' is not a class",
        ),
        ("--recipe quickstart --output bars.csv/x", "bars.csv/x cannot be written"),
        ("--recipe quickstart --device tpu", "'tpu' is not a device"),
        ("--recipe quickstart --device cuda:9", "this machine has 0 CUDA devices"),
        (f"{TRAIN} --set dataset.train=gone.csv --dry-run", "gone.csv does not exist"),
        (f"{TRAIN} --set dataset.test=texts.csv --dry-run", "has no split 'train'"),
        ("--recipe quickstart --set encoder.nope=1", "encoder.nope: unknown key"),
        ("--recipe quickstart --set head.nope=1", "head.nope: unknown key"),
        ("--recipe quickstart --set training.lr=fast", "training.lr: Input should be a valid"),
        ("--recipe quickstart --set engine.name=nope", "no engine named 'nope'"),
        ("--recipe quickstart --set engine.nope=1", "engine.nope: unknown key"),
        ("--recipe quickstart --set engine.graphs=perhaps", "engine.graphs: Input should be"),
        (
            "--recipe quickstart --set engine.name=deepspeed --set engine.stage=9",
            "engine.stage: Input should be 0, 1, 2 or 3",
        ),
        ("--recipe tfidf --set classifier.nope=1", "classifier.nope: unknown key"),
    ),
    "prompt": (
        ("--recipe nope", "no recipe named 'nope'"),
        ("--recipe current-zero-shot --set llm.nope=1", "llm.nope: unknown key"),
        (f"{PROMPT} --set dataset.test=gone.csv", "gone.csv does not exist"),
        (f"{PROMPT} --set dataset.test=texts.csv --set dataset.text=nope", "no column 'nope'"),
        (f"{PROMPT} --set dataset.test=nested.jsonl", "Name a field inside it: text.a"),
        (
            f"{PROMPT} --set dataset.test=texts.csv --output bars.csv/x",
            "bars.csv/x cannot be written",
        ),
    ),
    "cascade": (
        ("runs/gone answers.csv", "runs/gone does not exist"),
        ("--recipe nope", "no recipe named 'nope'"),
        ("--recipe cascade-minilm-local --set cascade.nope=1", "cascade.nope: unknown key"),
        ("answers.csv others.csv --report bars.csv/x.html", "bars.csv/x.html cannot be written"),
    ),
    "vote": (
        ("runs/gone answers.csv", "runs/gone does not exist"),
        ("--recipe nope", "no recipe named 'nope'"),
    ),
    "compare": (
        ("runs/gone", "runs/gone does not exist"),
        ("answers.csv what.xyz", "the format of this suffix is unknown"),
        ("answers.csv --dataset nope", "no dataset named 'nope'"),
        ("answers.csv others.csv --baseline nope", "The baseline 'nope' is not among the runs"),
        ("answers.csv others.csv --report bars.csv/x.html", "bars.csv/x.html cannot be written"),
        ("texts.csv", "No run has gold labels"),
    ),
    "label": (
        ("gone.csv --with RUN --output o.csv", "gone.csv does not exist"),
        ("txts.csv --with RUN --output o.csv", "txts.csv does not exist. Did you mean texts.csv?"),
        ("texts.csv --with runs/gone --output o.csv", "runs/gone does not exist"),
        ("late.csv --with tfidf --output o.csv", "The recipe 'tfidf' has no finished run"),
        ("late.csv --with RUN --agree-with tfidf --output o.csv", "'tfidf' has no finished run"),
        ("late.csv --with RUN --device cuda:9 --output o.csv", "has 0 CUDA devices"),
        ("texts.csv --with RUN --output o.csv --text-column nope", "no column 'nope'"),
        ("texts.csv --with RUN --output o.csv --checked gone.csv", "gone.csv does not exist"),
        ("nested.jsonl --with RUN --output o.csv", "Name a field inside it: text.a"),
        ("texts.csv --with RUN --output bars.csv/x.csv", "bars.csv/x.csv cannot be written"),
        ("texts.csv --with RUN --output o.doc", "o.doc: .doc files cannot be written"),
        ("texts.csv --with RUN --output o.csv --review-queue q.doc", "q.doc: .doc files cannot"),
        ("texts.csv --with RUN --output checked.csv", "checked.csv holds checks by people"),
        ("labelled.csv --with RUN --output o.csv", "already has a column 'predicted_label'"),
        ("--with RUN --output o.csv", "Name the file with the texts, or give --sql"),
        ("--sql \"select txt from 'texts.csv'\" --with RUN --output o.csv", '"txt" not found'),
    ),
    "annotate": (
        ("gone.csv --output c.csv", "gone.csv does not exist"),
        ("texts.csv --output c.csv --text-column nope", "no column 'nope'"),
        ("nested.jsonl --output c.csv", "Name a field inside it: text.a"),
        ("texts.csv --output bars.csv/x.csv", "bars.csv/x.csv cannot be written"),
        ("--output c.csv", "Name the file with the texts, or give --sql"),
        ("--sql 'delete from x' --output c.csv", "exactly one SELECT"),
        ("texts.csv --output c.csv --by nope", "no column 'nope'"),
        ("texts.csv --output c.csv --guidelines gone.txt", "gone.txt does not exist"),
    ),
    "sample": (
        ("texts.csv --size 99 --output s.csv", "99 texts cannot be drawn from 2"),
        ("texts.csv --size 2 --output s.doc", "name it .csv or .jsonl"),
    ),
    "estimate": (
        ("gone.csv --checked texts.csv", "gone.csv does not exist"),
        ("labelled.csv --checked gone.csv", "gone.csv does not exist"),
        ("labelled.csv --checked texts.csv --text-column nope", "no column 'nope'"),
        ("labelled.csv --checked texts.csv --by nope", "no column 'nope'"),
        ("labelled.csv --checked texts.csv --report bars.csv/x.html", "bars.csv/x.html cannot be"),
        ("labelled.csv --checked texts.csv --report x.doc", "x.doc is not a report"),
        ("labelled.csv --checked texts.csv --chart x.doc", "name it .svg, .png or .csv"),
        ("labelled.csv --checked texts.csv --by text:decade", "--by text:decade: Known: month"),
        ("--sql \"select * from 'gone.csv'\" --checked texts.csv", "gone.csv"),
    ),
    "datasets": (
        ("show nope", "no dataset named 'nope'"),
        ("show files --set test=gone.csv", "gone.csv does not exist"),
        ("show files --set test=texts.csv --set label=nope", "no column 'nope' for the label"),
        ("show files --set test=nested.jsonl", "Name a field inside it: text.a"),
        ("show hub", "path: a value is missing"),
        ("show sql --set 'test=drop table x'", "exactly one SELECT"),
        ("suspects answers.csv", "has no probabilities"),
    ),
    "export": (
        ("runs/gone out --format onnx", "runs/gone does not exist"),
        ("RUN out --format nope", "no format named 'nope'"),
        ("RUN texts.csv/out --format onnx", "because a file has that name"),
        ("RUN out --format onnx --private", "--private belongs to --format hub or transformers"),
    ),
    "serve": (
        ("runs/gone", "runs/gone does not exist"),
        ("quickstart", "has no finished run at runs/quickstart"),
        ("RUN --device tpu", "'tpu' is not a device"),
        ("RUN --device cuda:9", "this machine has 0 CUDA devices"),
        ("tfidf", "The recipe 'tfidf' has no finished run"),
        ("RUN --host 0.0.0.0", "Set SENTIKIT_SERVE_KEY"),
    ),
    "runs": (
        ("show runs/gone", "runs/gone does not exist"),
        ("table answers.csv --output t.xyz", "the name must end in"),
        ("table answers.csv --output bars.csv/x.csv", "bars.csv/x.csv cannot be written"),
    ),
}

#: As `MISTAKES`, on a machine without a key.
MISSING_KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "predict": (
        ("current-zero-shot texts.csv --format csv", "There is no key for OpenAI"),
        ("cascade.yaml texts.csv", "There is no key for OpenAI"),
    ),
    "evaluate": (("cascade.yaml --dataset demo", "There is no key for OpenAI"),),
    "prompt": ((f"{PROMPT} --set dataset.test=texts.csv", "There is no key for OpenAI"),),
    "label": (("late.csv --with cascade.yaml --output o.csv", "There is no key for OpenAI"),),
    "serve": (("current-zero-shot", "There is no key for OpenAI"),),
}


@pytest.fixture
def files(trained_run: Path) -> None:
    Path("texts.csv").write_text("text,label\nI love it,positive\nbad,negative\n")
    Path("bars.csv").write_text("body|label|stars\nI love it|positive|3\nbad|negative|1\n")
    Path("stars.csv").write_text("stars\n5\n3\n")
    Path("what.xyz").write_bytes(b"\x00\x01")
    Path("nested.jsonl").write_text('{"text": {"a": "I love it"}, "label": "positive"}\n')
    Path("late.csv").write_text("id,text\n" + "1,fine\n" * 600 + "2,a,b\n")
    Path("late.jsonl").write_text('{"text": "fine"}\n' * 600 + '{"text": ["a"]}\n')
    Path("broken.xlsx").write_bytes(b"PK no archive")
    Path("checked.csv").write_text("text,label,annotator,inclusion,revealed,seconds\n")
    Path("lists.json").write_text(json.dumps({"data": [{"text": "a"}], "more": [{"text": "b"}]}))
    rows = [f"film {n},{('negative', 'positive')[n % 2]}" for n in range(12)]
    for name in ("answers", "others"):
        Path(f"{name}.csv").write_text(
            "\n".join(["text,gold,label", *(f"{row},positive" for row in rows)])
        )
    labelled = "text,predicted_label,probability_negative,probability_neutral,probability_positive"
    Path("stopped").mkdir()
    Path("stopped/manifest.json").write_text('{"kind": "train", "status": "interrupted"}')
    members = [str(trained_run), "current-zero-shot"]
    cascade = {"kind": "cascade", "cascade": {"members": members, "thresholds": [0.9]}}
    Path("cascade.yaml").write_text(json.dumps(cascade))
    vote = {"kind": "vote", "vote": {"members": [str(trained_run), "runs/gone"]}}
    Path("vote.yaml").write_text(json.dumps(vote))
    Path("labelled.csv").write_text(f"{labelled}\nI love it,positive,0.1,0.2,0.7\n")


def run_all(commands: list[list[str]], key: str, reports: Path) -> None:
    """Run commands with PROGRAM, which writes what each of them did into a folder."""
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(reports)],
        input=json.dumps(commands),
        text=True,
        timeout=600,
        check=True,
        env={**os.environ, "OPENAI_API_KEY": key},
    )


@pytest.mark.parametrize(
    ("command", "mistakes", "key"),
    [
        *((command, mistakes, "none-is-asked") for command, mistakes in MISTAKES.items()),
        *((command, mistakes, "") for command, mistakes in MISSING_KEYS.items()),
    ],
)
def test_mistakes_are_reported_in_one_sentence_before_anything_heavy_is_imported(
    command: str,
    mistakes: tuple[tuple[str, str], ...],
    key: str,
    trained_run: Path,
    files: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    wrong, before = [], sorted(Path().rglob("*"))
    reports = tmp_path_factory.mktemp("reports")
    typed = [
        [command, *(str(trained_run) if w == "RUN" else w for w in shlex.split(words))]
        for words, _ in mistakes
    ]
    run_all(typed, key, reports)
    for number, (words, sentence) in enumerate(mistakes):
        output = (reports / f"{number}<stdout>").read_text()
        message = (reports / f"{number}<stderr>").read_text().splitlines()
        code, seconds, modules = json.loads((reports / f"{number}.json").read_text())
        if seconds > MOST_SECONDS:
            # A busy machine takes more of the processor for the same work: measure once more.
            run_all([typed[number]], key, again := tmp_path_factory.mktemp("again"))
            seconds = min(seconds, json.loads((again / "0.json").read_text())[1])
        heavy = sorted(set(HEAVY) & set(modules))
        sentences = [line for line in message if line.startswith("Error: ")]
        if (
            code != 2
            or len(sentences) != 1
            or sentence not in sentences[0]
            or output
            or heavy
            or seconds > MOST_SECONDS
        ):
            wrong.append((words, code, f"{seconds:.2f} s", heavy, message, output))
    assert not wrong, "\n".join(map(str, wrong))
    assert sorted(Path().rglob("*")) == before
