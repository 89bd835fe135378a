"""Plugins of a single file: the example in its prompts, and the writer of runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from llm_fixtures import serving

import sentikit
from sentikit.cli import sentikit as command_line
from sentikit.registry import default_registry

STRATEGY = """
from sentikit import hookimpl
from sentikit.extension import Message, PromptStrategy

class Telling(PromptStrategy):
    def messages(self, given):
        known = (given.id, given.source, dict(given.columns), given.text)
        return [Message("user", " | ".join(map(str, known)))]

@hookimpl
def register_prompt_strategies(register):
    register("telling", Telling, summary="tells all")
"""
COMMAND = """
from pathlib import Path
import click
from sentikit import Prediction, hookimpl, open_dataset
from sentikit.extension import LabelledSplit, RunPlan, RunWriter, choose_run_folder

@click.command()
@click.argument("label")
def always(label):
    "Give every text one label."
    dataset = open_dataset("demo")
    split = LabelledSplit(dataset.split("test"), dataset.scheme.classes, dataset.name, "test")
    run = choose_run_folder(None, "always", False, Path("runs"))
    plan = RunPlan("evaluate", {"dataset": {"name": "demo"}}, "", split)
    with run.locked(), RunWriter(run, plan) as writer:
        writer.begin(resume=False)
        writer.add_split(Prediction(label) for _ in range(len(split.examples)))
        writer.finish()

@hookimpl
def register_commands(register):
    register("always", always, summary="Give every text one label.")
"""
QUOTING = """
from sentikit import hookimpl
from sentikit.extension import LLMBackend, ComponentSettings, RejectedError, find_key

class Quoting(LLMBackend):
    class Settings(ComponentSettings):
        cache_prompts: bool = False

    model = "quoting"
    billed = False

    def canonical(self, request):
        return {"text": request.text}

    async def ask(self, request):
        raise RejectedError(f"the key {find_key('ACME_API_KEY')} may not do this")

@hookimpl
def register_llm_backends(register):
    register("quoting", Quoting)
"""
REVIEWS = """id,text,label,source,shop
a1,I love it,positive,web,Odense
a2,I hate it,negative,web,Aarhus
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_line, list(arguments))


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return what writes a plugin and switches it on for this test."""

    def write(code: str) -> None:
        Path("mine.py").write_text(code)
        monkeypatch.setenv("SENTIKIT_PLUGINS", "mine.py")
        default_registry.cache_clear()

    yield write
    default_registry.cache_clear()


def write_recipe(url: str) -> None:
    Path("reviews.csv").write_text(REVIEWS)
    recipe = {
        "kind": "prompt",
        "dataset": {"name": "files", "test": "reviews.csv", "columns": ["shop"]},
        "llm": {"backend": "openai", "model": "any", "base_url": url},
        "strategy": {"name": "telling"},
    }
    Path("mine.yaml").write_text(json.dumps(recipe))


class TestStrategies:
    def test_a_strategy_sees_id_source_and_other_columns_of_the_dataset(
        self, plug_in: Callable[[str], None]
    ) -> None:
        plug_in(STRATEGY)
        write_recipe("http://localhost:1/v1")
        shown = run("prompt", "--recipe", "mine.yaml", "--show", "1", "--json")
        assert shown.exit_code == 0, shown.output
        ((asked,),) = [entry["messages"] for entry in json.loads(shown.stdout)]
        assert asked["content"] == "a1 | web | {'shop': 'Odense'} | I love it"

    def test_a_strategy_sees_other_columns_of_the_file_in_predict(
        self, plug_in: Callable[[str], None]
    ) -> None:
        plug_in(STRATEGY)
        with serving() as server:
            write_recipe(server.url)
            labelled = run("predict", "mine.yaml", "reviews.csv", "--format", "jsonl")
            assert labelled.exit_code == 0, labelled.output
            asked = sorted(body["messages"][-1]["content"] for body in server.server.bodies)
        assert [json.loads(line)["predicted_label"] for line in labelled.stdout.splitlines()] == [
            "positive",
            "negative",
        ]
        assert any("'shop': 'Odense'" in text and "I love it" in text for text in asked)


def test_a_key_in_a_backends_error_reaches_no_file_and_no_message(
    plug_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "acme-" + "s3cr3t" * 5
    monkeypatch.setenv("ACME_API_KEY", key)
    plug_in(QUOTING)
    Path("reviews.csv").write_text(REVIEWS)
    recipe = {
        "kind": "prompt",
        "dataset": {"name": "files", "test": "reviews.csv"},
        "llm": {"backend": "quoting"},
    }
    Path("mine.yaml").write_text(json.dumps(recipe))
    done = run("prompt", "--recipe", "mine.yaml", "--output", "runs/mine")
    written = [path for path in Path().rglob("*") if path.is_file()]
    assert Path("runs/mine/predictions.jsonl") in written, done.output
    assert "[ACME_API_KEY] may not do this" in Path("runs/mine/predictions.jsonl").read_text()
    assert key not in done.output
    assert [path for path in written if key.encode() in path.read_bytes()] == []


def test_a_run_written_by_a_plugins_command_can_be_shown_compared_and_read(
    plug_in: Callable[[str], None],
) -> None:
    plug_in(COMMAND)
    done = run("always", "positive")
    assert done.exit_code == 0, done.output
    assert run("always", "neutral").exit_code == 0
    shown = json.loads(run("runs", "show", "runs/always", "--json").stdout)
    assert shown["manifest"]["status"] == "finished"
    assert shown["metrics"]["overall"]["accuracy"] == pytest.approx(1 / 3)
    compared = run("compare", "runs/always", "runs/always-2")
    assert compared.exit_code == 0, compared.output
    table = sentikit.read_run("runs/always")
    assert {table.classes[number] for number in table.answers.labels} == {"positive"}


def test_summaries_of_plugins_are_printed_without_escape_sequences(
    plug_in: Callable[[str], None],
) -> None:
    odd = r"\x1b[31m\x1b]0;title\x07\u202eGive"
    plug_in(COMMAND.replace('summary="Give', f'summary="{odd}'))
    for arguments in (["--help"], ["plugins", "list"]):
        shown = run(*arguments)
        assert shown.exit_code == 0, shown.output
        assert not set("\x1b\x07\u202e") & set(shown.output)
    assert "Give every text one label." in run("--help").output
