"""The strategy ``template``: a prompt in the user's own words."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from llm_fixtures import serving
from prompt_runs import make_components, prompt_inputs, run_prompts

from sentikit import InputError, Prediction
from sentikit.extension import Message, PromptInput, PromptStrategy, RetrievedExample
from sentikit.registry import default_registry

CLASSES = ("negative", "neutral", "positive")


def template(**settings: Any) -> PromptStrategy:
    strategy = default_registry().load("register_prompt_strategies", "template")
    made: PromptStrategy = strategy(strategy.Settings(**settings))
    return made


def prompt(given: PromptInput, **settings: Any) -> str:
    return template(**settings).messages(given)[-1].content


@pytest.fixture
def reviews() -> str:
    """A file with four texts of each class, and three to label."""
    with Path("train.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for label in CLASSES:
            writer.writerows([f"a {label} text {n}", label] for n in range(4))
    Path("test.csv").write_text("text,label\nI love it,positive\nI hate it,negative\n")
    return "train.csv"


def test_a_template_fills_in_its_fields() -> None:
    given = PromptInput(
        "So {good}!",
        CLASSES,
        Prediction("positive", {"negative": 0.1, "neutral": 0.2, "positive": 0.7}),
        (RetrievedExample("Fine.", "neutral"),),
        id="r7",
        source="yelp",
        columns={"title": "Lunch", "stars": 5, "empty": None},
    )
    words = (
        "{{{id}}} {source} {row.title} {row.stars}{row.empty}: {text}\n"
        "{labels}; {adviser.label}; {adviser.probabilities}\n{examples}"
    )
    assert prompt(given, user=words, example="{text} = {label}") == (
        "{r7} yelp Lunch 5: So {good}!\n"
        "negative, neutral, positive; positive; negative 10.0%, neutral 20.0%, positive 70.0%\n"
        "Fine. = neutral"
    )


def test_inserted_values_are_never_parsed_as_templates() -> None:
    given = PromptInput("{labels} {0.__class__} {{x}} %s $y", CLASSES, columns={"a": "{text}"})
    assert prompt(given, user="{text} | {row.a}") == "{labels} {0.__class__} {{x}} %s $y | {text}"


def test_a_templates_system_message_comes_first() -> None:
    messages = template(system="You label {labels}.", user="{text}").messages(
        PromptInput("Hm.", ("no", "yes"))
    )
    assert messages == [Message("system", "You label no, yes."), Message("user", "Hm.")]


def test_labels_are_listed_with_their_descriptions() -> None:
    given = PromptInput("Hm.", ("angry", "calm"))
    words = prompt(given, user="{text}\n{labels}", descriptions={"angry": "complains or shouts"})
    assert words == "Hm.\n- angry: complains or shouts\n- calm"
    with pytest.raises(
        InputError, match=r"'angri' is not one of the labels .*Did you mean 'angry'"
    ):
        prompt(given, descriptions={"angri": "x"})


def test_shots_are_part_of_every_prompt() -> None:
    shots = [{"text": "Great.", "label": "positive"}, {"text": "{text}", "label": "negative"}]
    words = prompt(PromptInput("Hm.", CLASSES), user="{examples}\n\n{text}", shots=shots)
    assert words == "Text: Great.\nLabel: positive\n\nText: {text}\nLabel: negative\n\nHm."
    wrong = [{"text": "Great.", "label": "postive"}]
    with pytest.raises(InputError, match=r"strategy.shots: 'postive' is not one of the labels"):
        prompt(PromptInput("Hm.", CLASSES), user="{examples}{text}", shots=wrong)


def test_a_template_needs_what_its_fields_name() -> None:
    needs = template(user="{text}").needs()
    assert (needs.label, needs.probabilities, needs.examples) == (False, False, None)
    needs = template(user="{text} {adviser.label} {examples}", k=3, balanced=True).needs()
    assert needs.label
    assert not needs.probabilities
    assert needs.examples is not None
    assert (needs.examples.k, needs.examples.balanced, needs.examples.nearest) == (3, True, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"user": "{texts}"}, r"\{texts\} is unknown. Did you mean 'text'"),
        ({"user": "{text} {adviser.labels}"}, r"Did you mean 'adviser.label'"),
        ({"user": "{text.__class__}"}, r"\{text.__class__\} is unknown"),
        ({"user": "{text} {row.}"}, r"\{row.\} is unknown"),
        ({"user": "{text} {"}, r"the '\{' at character 8 is unmatched; write '\{\{'"),
        ({"user": "{labels}"}, "the model never sees it"),
        ({"user": "{text} {examples}", "example": "{txt}"}, r"\{txt\} is unknown. Did you mean"),
        ({"user": "{text}", "shots": [{"text": "a", "label": "b"}]}, r"shows \{examples\}"),
    ],
)
def test_template_errors_are_reported_before_any_query(
    settings: dict[str, Any], message: str, reviews: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_components(
            dataset={"name": "files", "test": "test.csv"},
            llm={"backend": "openai", "model": "any", "base_url": "http://127.0.0.1:9/v1"},
            strategy={"name": "template", **settings},
        )


def test_a_missing_column_is_named_with_the_available_ones() -> None:
    given = PromptInput("Hm.", CLASSES, columns={"title": "x", "stars": 1})
    with pytest.raises(InputError, match=r"row.titel.*it has title, stars.*Did you mean 'title'"):
        prompt(given, user="{text} {row.titel}")
    with pytest.raises(InputError, match=r"row.source.*The example's own source is \{source\}"):
        prompt(given, user="{text} {row.source}")


def test_drawn_examples_are_the_same_for_every_prompt(reviews: str) -> None:
    def drawn(seed: int) -> list[tuple[RetrievedExample, ...]]:
        components = make_components(
            dataset={"name": "files", "train": reviews, "test": "test.csv"},
            llm={"backend": "openai", "model": "any", "base_url": "http://127.0.0.1:9/v1"},
            strategy={
                "name": "template",
                "user": "{examples}\n\n{text}",
                "k": 2,
                "balanced": True,
                "nearest": False,
                "examples": {"split": "train", "seed": seed},
            },
        )
        return [given.examples for given in prompt_inputs(components)]

    first = drawn(1)
    assert first[0] == first[1]
    assert sorted(example.label for example in first[0]) == sorted([*CLASSES, *CLASSES])
    assert drawn(1) == first
    assert drawn(2) != first


def test_a_template_run_is_written(reviews: str) -> None:
    with serving() as s:
        components = make_components(
            dataset={"name": "files", "test": "test.csv"},
            llm={"backend": "openai", "model": "any", "base_url": s.url},
            strategy={"name": "template", "system": "Be brief.", "user": "Review: {text}"},
        )
        finished = run_prompts(components, Path("runs/a"))
        bodies = [b for b in s.server.bodies if len(b["messages"]) == 2]
    assert finished.totals.rows == 2
    assert [m["content"] for m in bodies[0]["messages"]] == ["Be brief.", "Review: I love it"]


def test_columns_kept_by_a_dataset_reach_the_prompts() -> None:
    Path("test.csv").write_text(
        "title,text,label,stars\nLunch,I love it,positive,5\nDinner,I hate it,negative,\n"
    )
    with serving() as s:
        components = make_components(
            dataset={"name": "files", "test": "test.csv", "columns": ["title", "stars"]},
            llm={"backend": "openai", "model": "any", "base_url": s.url, "in_flight": 1},
            strategy={"name": "template", "user": "{row.title} ({row.stars}) {id}: {text}"},
        )
        inputs = prompt_inputs(components)
        finished = run_prompts(components, Path("runs/a"))
        asked = [body["messages"][-1]["content"] for body in s.server.bodies[-2:]]
    assert [given.columns for given in inputs] == [
        {"title": "Lunch", "stars": "5"},
        {"title": "Dinner", "stars": None},
    ]
    assert asked == [
        f"Lunch (5) {inputs[0].id}: I love it",
        f"Dinner () {inputs[1].id}: I hate it",
    ]
    assert finished.totals.invalid == 0


def test_an_unkept_column_is_reported_with_the_setting_that_keeps_it() -> None:
    Path("test.csv").write_text("title,text,label\nLunch,I love it,positive\n")
    with serving() as s:
        components = make_components(
            dataset={"name": "files", "test": "test.csv"},
            llm={"backend": "openai", "model": "any", "base_url": s.url},
            strategy={"name": "template", "user": "{row.title}: {text}"},
        )
        with pytest.raises(InputError, match=r"row\.title.*it has none.*dataset\.columns"):
            run_prompts(components, Path("runs/a"))


def test_a_missing_column_to_keep_is_refused() -> None:
    Path("test.csv").write_text("title,text,label\nLunch,I love it,positive\n")
    with pytest.raises(InputError, match="titel"):
        prompt_inputs(
            make_components(
                dataset={"name": "files", "test": "test.csv", "columns": ["titel"]},
                llm={"backend": "openai", "model": "any", "base_url": "http://127.0.0.1:9/v1"},
            )
        )
