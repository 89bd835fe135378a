"""Rationales, answers in free text, and the confidence of an LLM."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from llm_fixtures import serving
from prompt_runs import make_components, run_prompts

import sentikit
from sentikit import InputError
from sentikit.cli import sentikit as command_line
from sentikit.extension import (
    ChatRequest,
    Message,
    Needs,
    PromptInput,
    PromptStrategy,
    read_rows,
)

DATASET = {"name": "files", "test": "test.csv"}
ROWS = [("I love it", "positive"), ("I hate it", "negative"), ("It is a film", "neutral")]


@pytest.fixture(autouse=True)
def _rows() -> None:
    lines = ["text,label", *(f"{text},{label}" for text, label in ROWS)]
    Path("test.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def llm(url: str, **more: Any) -> dict[str, Any]:
    return {"backend": "openai", "model": "any", "base_url": url, **more}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("guarantee", ["json_schema", "choice", "grammar", "tool"])
def test_under_every_guarantee_the_rationale_precedes_the_label_and_is_stored_separately(
    guarantee: str,
) -> None:
    with serving(enforces=(guarantee,)) as s:
        components = make_components(
            dataset=DATASET,
            llm=llm(s.url, guarantee=guarantee),
            strategy={"name": "zero-shot", "rationale": True},
        )
        finished = run_prompts(components, Path("runs/a"))
        sent = s.server.bodies[-1]
    assert finished.totals.invalid == 0
    found = rows_of(Path("runs/a"))
    assert [row["label"] for row in found] == [label for _, label in ROWS]
    assert [row["rationale"] for row in found] == [f"It sounds {label}." for _, label in ROWS]
    assert sent["max_completion_tokens"] == 200
    assert sent["messages"][-1]["content"].endswith('"label": "…"}')
    if guarantee != "tool":
        assert all(row["probabilities"][row["label"]] > 0.5 for row in found)


def test_without_a_guarantee_the_rationale_precedes_the_line_with_the_label() -> None:
    answer = "It is praise through and through.\nLabel: positive"
    with serving(enforces=(), text=answer) as s:
        components = make_components(
            dataset=DATASET,
            llm=llm(s.url, guarantee="text"),
            strategy={"name": "zero-shot", "rationale": True},
        )
        run_prompts(components, Path("runs/a"))
    first = rows_of(Path("runs/a"))[0]
    assert first["label"] == "positive"
    assert first["rationale"] == "It is praise through and through."


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_predict_writes_a_column_of_rationales(name: str) -> None:
    with serving() as s:
        recipe = {
            "kind": "prompt",
            "dataset": DATASET,
            "llm": llm(s.url),
            "strategy": {"name": "zero-shot", "rationale": True},
        }
        Path("own.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        command = ["predict", "own.yaml", "test.csv", "--output", name]
        result = CliRunner().invoke(command_line, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with read_rows(name) as table:
        found = [dict(row) for _, row in table]
    assert [row["rationale"] for row in found] == [f"It sounds {label}." for _, label in ROWS]


def test_a_backend_that_only_chooses_labels_cannot_give_rationales() -> None:
    with pytest.raises(InputError, match=r"strategy\.rationale: this LLM backend only chooses"):
        make_components(
            dataset=DATASET,
            llm={"backend": "local", "model": "x"},
            strategy={"name": "zero-shot", "rationale": True},
        )


@pytest.mark.parametrize(
    "sure", [{}, {"probabilities": False, "samples": 3, "temperature": 0.7}], ids=["log", "samples"]
)
def test_an_llm_with_confidence_can_be_the_first_member_of_a_cascade(sure: dict[str, Any]) -> None:
    """Its confidence is that of its log-probabilities (0.8 here), or its samples' agreement."""
    lines = ["text,prediction", *(f"{text},neutral" for text, _ in ROWS)]
    Path("last.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with serving(faults={}) as s:
        recipe = {
            "kind": "prompt",
            "dataset": DATASET,
            "llm": llm(s.url, **sure),
            "strategy": {"name": "zero-shot", "rationale": True},
        }
        Path("first.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        for threshold, who in ((0.75, "first"), (1.0, "last" if not sure else "first")):
            cascade = {
                "kind": "cascade",
                "dataset": DATASET,
                "cascade": {"members": ["first.yaml", "last.csv"], "thresholds": [threshold]},
            }
            Path("both.yaml").write_text(json.dumps(cascade), encoding="utf-8")
            found = list(sentikit.load("both.yaml").classify([text for text, _ in ROWS]))
            assert [one.answered_by for one in found] == [who] * 3
            wanted = [label if who == "first" else "neutral" for _, label in ROWS]
            assert [one.label for one in found] == wanted


def test_an_llm_without_confidence_is_refused_as_first_member_with_a_remedy() -> None:
    lines = ["text,prediction", *(f"{text},neutral" for text, _ in ROWS)]
    Path("last.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with serving(logprobs=False) as s:
        recipe = {"kind": "prompt", "dataset": DATASET, "llm": llm(s.url)}
        Path("first.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        cascade = {
            "kind": "cascade",
            "dataset": DATASET,
            "cascade": {"members": ["first.yaml", "last.csv"], "thresholds": [0.5]},
        }
        Path("both.yaml").write_text(json.dumps(cascade), encoding="utf-8")
        with pytest.raises(InputError, match=r"llm\.samples"):
            list(sentikit.load("both.yaml").classify(["I love it"]))


class Thinker(PromptStrategy):
    """Wants a chain of thought, and takes its last word."""

    def needs(self) -> Needs:
        return Needs(free_text=True, tokens=150)

    def messages(self, given: PromptInput) -> list[Message]:
        return [Message("user", f"Think aloud.\nReview: {given.text}")]

    def parse(self, answer: str, classes: Sequence[str]) -> str | None:
        last = answer.split()[-1].strip(".")
        return last if last in classes else None


def test_a_free_text_strategy_is_not_restricted_and_its_tokens_are_estimated() -> None:
    from sentikit.labelling.job import estimate
    from sentikit.labelling.prompting import split_classifier, split_to_label
    from sentikit.registry import default_registry
    from sentikit.runs.writer import SplitRows

    with serving(text="First this, then that, so all in all it is positive.") as s:
        components = make_components(
            dataset=DATASET, llm=llm(s.url, prices={"prompt": 1, "completion": 1})
        )
        components = type(components)(
            **{**components.__dict__, "strategy": Thinker(Thinker.Settings())}
        )
        split = split_to_label(components)
        classifier = split_classifier(components, split, default_registry())
        (counted,) = estimate(classifier, SplitRows(split), Path("none.sqlite"))
        assert counted.completion_tokens >= 3 * 150
        run_prompts(components, Path("runs/a"))
        sent = [body for body in s.server.bodies if "Think aloud" in str(body["messages"])]
    assert len(sent) == 3
    assert all(body["max_completion_tokens"] == 300 for body in sent)
    assert not any("response_format" in body or "tools" in body for body in sent)
    found = rows_of(Path("runs/a"))
    assert [row["label"] for row in found] == ["positive"] * 3


def test_deprecated_names_of_prompt_input_work_with_a_warning() -> None:
    given = PromptInput("x", ("a", "b"), sentikit.Prediction("a"))
    with pytest.warns(DeprecationWarning, match="adviser_prediction"):
        assert given.opinion == sentikit.Prediction("a")
    with pytest.warns(DeprecationWarning, match=r"Needs\.prediction"):
        assert Needs(label=True).opinion
    with pytest.warns(DeprecationWarning, match=r"sentikit\.Prediction"):
        assert sentikit.extension.Opinion is sentikit.Prediction
    assert ChatRequest((), ("a",)).rationale is False
