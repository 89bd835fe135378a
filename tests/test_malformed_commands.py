"""More than 300 malformed inputs: each is one sentence and exit code 2, and nothing is written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from sentikit.cli import sentikit

#: What no number of a recipe may be.
NO_NUMBERS = (
    "-1", "nan", "inf", "-inf", "1e999", "true", "yes", "x", "''", "[1]", "{a: 1}", "9" * 40,
)  # fmt: skip
NUMBERS = {
    "quickstart": (
        "training.epochs", "training.batch_size", "training.lr", "training.weight_decay",
        "training.max_grad_norm", "encoder.max_length", "training.seed",
    ),
    "current-zero-shot": ("llm.max_tokens", "llm.samples", "llm.concurrency", "llm.timeout"),
}  # fmt: skip
#: By recipe, settings of which each is wrong in another way.
SETTINGS = {
    "quickstart": (
        "training", "=", "training=", "=1", "training.=1", ".training=1", "training..lr=1",
        "training=1", "training=[]", "training.lr.x=1", "trainning.lr=1", "training.lrr=1",
        "dataset=7", "dataset.name=nonsense", "dataset.name=", "dataset=[demo]",
        "dataset.labels=stars9", "dataset.labels=[]", "dataset.labels=[a]", "dataset.labels=[a,a]",
        "dataset.splits={train: nonsense, x: y}", "dataset.sample=0", "dataset.sample=2",
        "dataset.sample=x%", "dataset.threshold=1", "dataset.threshold=-0.1",
        "encoder.name=nonsense", "encoder=7", "encoder.long_texts=fold",
        "encoder.max_length=3", "head.name=nonsense", "head=7", "head.pooling=nonsense",
        "head.width=x", "engine=nonsense", "engine.name=nonsense", "engine={nme: torch}",
        "kind=nonsense", "kind=7", "extends=nonsense", "trackers=nonsense", "trackers=[nonsense]",
        "trackers=[tensorboard,tensorboard]", "training.optimizer=nonsense",
        "training.optimizer={}", "training.schedule=nonsense", "training.precision=fp12",
        "training.finetune_layers=none-of-them", "training.loss=nonsense", "a.b.c=1", "\x00=1",
        "training.lr=!!python/object:os.system", "training.lr=&a *a", "training={lr: 1, lr: 2}",
        "training=[1", "training={", "training: lr", "description=[1]", "llm.model=x",
        "vote.members=[a,b]", "cascade.members=[a]",
    ),
    "current-zero-shot": (
        "llm.backend=nonsense", "llm=7", "llm.temperature=-1", "llm.temperature=hot",
        "strategy.name=nonsense", "strategy=7", "llm.samples=65", "llm.base_url=ftp://x",
        "llm.base_url=http://", "llm.base_url=http://x:99999/v1", "llm.base_url=7",
        "llm.header_variables=7",
        "llm.nonsense=1", "llm.price={prompt: -5}", "training.lr=1",
    ),
}  # fmt: skip
#: Commands of which each is wrong by itself.
COMMANDS = (
    "nonsense", "train", "train --recipe", "train --recipe nonsense", "train --recipe gone.yaml",
    "train --recipe .", "train --recipe quickstart --nproc 0",
    "train --recipe quickstart --nproc x", "train --recipe quickstart --threads -1",
    "train --recipe quickstart --device tpu", "train --recipe quickstart --device cuda:99",
    "train --recipe quickstart --device tpu --dry-run",
    "train --recipe quickstart extra", "train --recipe current-zero-shot",
    "train --recip quickstart", "prompt", "prompt --recipe nonsense", "prompt --recipe quickstart",
    "prompt --recipe current-zero-shot --show 0", "prompt --recipe current-zero-shot --limit 0",
    "prompt --recipe current-zero-shot --limit 1.5",
    "prompt --recipe current-zero-shot --max-cost nan",
    "prompt --recipe current-zero-shot --max-cost -1",
    "prompt --recipe current-zero-shot --max-cost inf",
    "prompt --recipe current-zero-shot --fail-on-error -1",
    "prompt --recipe current-zero-shot --fail-on-error x", "predict", "predict nonsense",
    "predict runs/gone", "predict answers.csv gone.csv",
    "predict answers.csv table.csv --text-column nonsense",
    "predict answers.csv table.csv --format xml", "predict answers.csv table.csv --max-cost nan",
    "predict answers.csv table.csv --input-format nonsense", "predict answers.csv .",
    "predict answers.csv table.csv --precision int3", "evaluate", "evaluate nonsense",
    "evaluate runs/gone --dataset demo", "evaluate answers.csv --dataset nonsense",
    "evaluate answers.csv --dataset demo --split nonsense", "evaluate answers.csv --dataset files",
    "evaluate answers.csv --dataset demo --set nonsense=1", "compare nonsense",
    "compare runs/gone", "compare answers.csv gone.csv", "compare answers.csv --confidence 2",
    "compare answers.csv --confidence nan", "compare answers.csv --resamples 0",
    "compare answers.csv --resamples 1e12", "compare answers.csv --seed -1",
    "compare answers.csv --sample-size 0", "compare answers.csv --sample-size x",
    "compare answers.csv --baseline nonsense", "compare answers.csv --format xml",
    "compare answers.csv --dataset nonsense", "compare answers.csv --gpu-rate -1",
    "compare answers.csv --training-cost nonsense=1",
    "compare answers.csv --inference-cost answers=x", "cascade", "cascade answers.csv",
    "cascade answers.csv gone.csv", "cascade --threshold 2 a b", "cascade --threshold nan a b",
    "cascade --recipe nonsense", "cascade --recipe quickstart", "cascade --goal nonsense a b",
    "cascade --llm-cost -1 a b", "vote", "vote answers.csv", "vote a b", "vote --recipe nonsense",
    "vote --recipe quickstart", "vote --ties nonsense a b", "annotate",
    "annotate gone.csv --output checked.csv", "annotate table.csv",
    "annotate table.csv --output checked.csv --size 0",
    "annotate table.csv --output checked.csv --port 0",
    "annotate table.csv --output checked.csv --port 99999", "label", "label table.csv",
    "label gone.csv --with answers.csv --output out.csv",
    "label table.csv --with nonsense --output o.csv",
    "label table.csv --with answers.csv --output out.csv --accuracy 1.4",
    "label table.csv --with answers.csv --output out.csv --accuracy nan",
    "label table.csv --with answers.csv --output out.csv --level 0",
    "label table.csv --with answers.csv --output out.csv --checked gone.csv",
    "label table.csv --with answers.csv --output out.csv --sample 3", "estimate",
    "estimate gone.csv", "estimate table.csv --checked gone.csv",
    "estimate table.csv --checked table.csv --level 1", "monitor", "monitor gone.json",
    "monitor table.csv", "monitor broken.json", "monitor broken.json --level 7", "export",
    "export nonsense", "export nonsense out", "export runs/gone out --format onnx",
    "export runs/gone out --format nonsense", "serve", "serve nonsense",
    "serve answers.csv --port 99999", "serve answers.csv --port x",
    "serve answers.csv --most-texts 0", "serve answers.csv --max-cost nan", "gpt-finetune",
    "gpt-finetune --recipe nonsense", "gpt-finetune --recipe quickstart",
    "doctor --base-url nonsense", "doctor --base-url ftp://x", "doctor --nonsense",
    "datasets suspects", "datasets suspects gone.csv", "recipes nonsense",
    "recipes list --nonsense", "recipes show",
    "recipes show nonsense", "recipes show gone.yaml", "recipes copy quickstart",
    "recipes copy quickstart out.txt", "recipes copy nonsense out.yaml",
    "recipes copy quickstart .", "recipes check nonsense", "recipes check gone.yaml",
    "recipes check broken.json", "datasets nonsense", "datasets show", "datasets show nonsense",
    "datasets show demo --set nonsense=1", "datasets show demo --set labels=9",
    "datasets show files", "datasets show files --path gone", "runs nonsense", "runs list gone",
    "runs show", "runs show nonsense", "runs show runs/gone", "runs table",
    "runs table answers.csv", "runs table gone.csv --output out.csv",
    "runs table answers.csv --output out.xml", "plugins nonsense", "plugins list --hook nonsense",
    "plugins check nonsense", "plugins new", "plugins new Bad_Name", "plugins new 7",
    "plugins new json", "plugins new train", "plugins new film-club --kind nonsense",
    "plugins new ../film-club", "plugins new film-club --output table.csv",
)  # fmt: skip
#: Content of recipe files.
RECIPES = (
    b"", b"[]", b"7", b"training", b"training:", b"training: [", b"training: {lr: 1", b"a: b: c",
    b"\xff\xfe\x00", b"\x00", b"training: {lr: 1e-5}\ntraining: {}", b"kind: nonsense",
    b"kind: [train]", b"extends: nonsense", b"extends: [quickstart]", b"extends: mine.yaml",
    b"&a [*a]", b"- train", b"!!python/object/apply:os.system ['true']", b"? {a: 1}\n: 2",
    b"<<: *x", b"kind: train", b"kind: prompt", b"kind: finetune", b"kind: cascade", b"kind: vote",
    b"%YAML 9", b"--- 1\n--- 2", b"kind: train\ndataset: demo\n\tencoder: x", b"{" * 3000,
)  # fmt: skip
#: Content of tables, by name.
TABLES: dict[str, bytes] = {
    "nothing.csv": b"",
    "headless.csv": b"text\n",
    "unnamed.csv": b",\nx,y\n",
    "twice.csv": b"text,text\na,b\n",
    "ragged.csv": b"text,label\na,b,c,d\n",
    "open.csv": b'text,label\n"a,b\n',
    "latin.csv": "text\ncaf\xe9\n".encode("latin-1"),
    "null.csv": b"text\n\x00\x00\n",
    "zip.csv": b"PK\x03\x04" + b"\x00" * 40,
    "utf16.csv": "text\nfilm\n".encode("utf-16"),
    "cut.csv.gz": gzip.compress(b"text\na film\n" * 50)[:30],
    "plain.csv.gz": b"text\na film\n",
    "plain.parquet": b"PAR1 but not really",
    "empty.parquet": b"",
    "plain.xlsx": b"PK no workbook",
    "broken.jsonl": b'{"text": "a"\n',
    "list.jsonl": b"[1, 2]\n",
    "number.jsonl": b"7\n",
    "deep.jsonl": b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}\n",
    "digits.jsonl": b'{"text": ' + b"9" * 6000 + b"}\n",
    "nested.jsonl": b'{"text": {"a": 1}}\n',
    "broken.json": b"[",
    "word.json": b'"text"',
    "empty.zst": b"",
    "what.xyz": b"\x00\x01\x02",
}
ANSWERS = b"text,gold,label\n" + b"".join(
    b"film %d,%s,positive\n" % (n, b"positive" if n % 2 else b"negative") for n in range(12)
)


def recipe_commands() -> list[list[str]]:
    found = []
    for recipe, keys in NUMBERS.items():
        found += [[recipe, f"{key}={value}"] for key in keys for value in NO_NUMBERS]
    found += [[recipe, setting] for recipe, settings in SETTINGS.items() for setting in settings]
    return [["recipes", "check", recipe, "--set", setting] for recipe, setting in found]


def write_files() -> None:
    Path("answers.csv").write_bytes(ANSWERS)
    Path("table.csv").write_bytes(b"id,text\n1,A fine film.\n")
    Path("broken.json").write_bytes(b"[")


def refused(arguments: list[str]) -> str:
    """Run a command; return what is wrong with how it was refused."""
    before = sorted(Path().rglob("*"))
    result = CliRunner().invoke(sentikit, arguments)
    output = result.stderr + result.stdout
    if result.exit_code != 2:
        return f"exit code {result.exit_code}, {result.exception!r}: {output[-300:]}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"raised {result.exception!r}"
    shown = output if "Which recipe?" not in output else output[:100]  # it lists them
    if (
        not output.strip()
        or len(shown) > 1500
        or "Traceback" in output
        or "bug in sentikit" in output
    ):
        return f"printed {output[:1500]!r}"
    left = [str(path) for path in sorted(Path().rglob("*")) if path not in before]
    return f"left {left}" if left else ""


def wrong(commands: list[list[str]], prepare: Callable[[], None] = write_files) -> list[str]:
    prepare()
    problems = {" ".join(arguments)[:120]: refused(arguments) for arguments in commands}
    return [f"{command}: {problem}" for command, problem in problems.items() if problem]


#: Numbers that are right where they stand, however odd.
SOUND = {
    "training.seed=-1", "training.weight_decay=''", "training.max_grad_norm=''",
}  # fmt: skip


@pytest.mark.parametrize("recipe", [*NUMBERS])
def test_a_malformed_recipe_setting_gives_one_sentence_and_exit_2(recipe: str) -> None:
    own = [c for c in recipe_commands() if c[2] == recipe and c[-1] not in SOUND]
    assert wrong(own) == []


@pytest.mark.parametrize("first", sorted({command.split()[0] for command in COMMANDS}))
def test_a_malformed_command_gives_one_sentence_and_exit_2(first: str) -> None:
    assert wrong([c.split() for c in COMMANDS if c.split()[0] == first]) == []


def test_a_malformed_recipe_file_gives_one_sentence_and_exit_2() -> None:
    problems = []
    for content in RECIPES:
        Path("mine.yaml").write_bytes(content)
        problem = refused(["recipes", "check", "mine.yaml"])
        problems += [f"{content[:60]!r}: {problem}"] if problem else []
    assert problems == []


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_malformed_table_gives_one_sentence_and_exit_2(name: str) -> None:
    write_files()
    Path(name).write_bytes(TABLES[name])
    assert refused(["predict", "answers.csv", name]) == ""


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", "7", "{", '{"kind": 7}', "[" * 5000, '{"status": {}}', '{"kind": "train"}', "\x00"],
)
def test_a_malformed_manifest_gives_one_sentence_and_exit_2(manifest: str) -> None:
    Path("runs/odd").mkdir(parents=True)
    Path("runs/odd/manifest.json").write_text(manifest)
    Path("runs/odd/predictions.jsonl").write_text(json.dumps({"id": 1}))
    assert wrong([["runs", "show", "runs/odd"], ["predict", "runs/odd", "table.csv"]]) == []


def test_more_than_three_hundred_malformed_inputs_are_tested() -> None:
    assert len(recipe_commands()) + len(COMMANDS) + len(RECIPES) + len(TABLES) > 300
