"""The adviser's prediction: from a model, a run or a file, refused if it is about other texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prompt_runs import make_components, prompt_inputs

import sentikit
from sentikit import InputError, extension
from sentikit.classifiers.classifier import Session
from sentikit.labelling.prompting import split_to_label
from sentikit.llm.classifier import LLMClassifier, split_context
from sentikit.llm.context import ContextSource, Memory
from sentikit.llm.session import RequestSession
from sentikit.llm.strategy import PromptInput, label_reader
from sentikit.registry import default_registry
from sentikit.runs.writer import SplitRows

LLM = {"backend": "replay", "run": "unused.csv"}
ROWS = ["text,label", "Good,positive", "Bad,negative", "Good,positive"]


def given_to(
    dataset: dict[str, Any], memory: Memory | None = None, **more: Any
) -> list[PromptInput]:
    return prompt_inputs(make_components(**{"dataset": dataset, "llm": LLM, **more}), memory)


def files(path: str, rows: list[str] | None = None) -> dict[str, Any]:
    Path(path).write_text("\n".join(rows or ROWS) + "\n", encoding="utf-8")
    return {"name": "files", "test": path}


class Kept:
    """Keeps what models computed, as a session of a job does."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def recall(self, key: str) -> Any:
        return self.values.get(key)

    def remember(self, key: str, value: Any) -> None:
        self.values[key] = value


def shown_labels(given: list[PromptInput]) -> list[str]:
    return [row.adviser_prediction.label for row in given if row.adviser_prediction is not None]


def shown_probabilities(given: list[PromptInput]) -> list[list[float]]:
    return [
        list(row.adviser_prediction.probabilities.values())
        for row in given
        if row.adviser_prediction is not None and row.adviser_prediction.probabilities is not None
    ]


def test_adviser_predictions_are_matched_to_rows_in_another_order() -> None:
    Path("adviser.csv").write_text(
        "text,base,base_p\n"
        'Bad,neutral,"[0.2, 0.5, 0.3]"\n'
        'Good,positive,"[0.1, 0.2, 0.7]"\n'
        'Good,negative,"[0.6, 0.2, 0.2]"\n'
    )
    strategy = {
        "name": "label-probabilities",
        "encoder": "adviser.csv",
        "label_column": "base",
        "probabilities_column": "base_p",
    }
    found = given_to(files("test.csv"), strategy=strategy)
    assert shown_labels(found) == ["positive", "neutral", "negative"]
    assert found[0].adviser_prediction == sentikit.Prediction(
        "positive", {"negative": 0.1, "neutral": 0.2, "positive": 0.7}
    )


def test_records_that_do_not_match_are_refused_with_count_and_first_difference() -> None:
    Path("adviser.csv").write_text("text,prediction\nGood,neutral\nOther,neutral\nMore,neutral\n")
    with pytest.raises(InputError) as caught:
        given_to(files("test.csv"), strategy={"name": "label", "encoder": "adviser.csv"})
    assert caught.value.message == (
        "adviser.csv does not belong to files/test: 2 of 3 examples are not in it. "
        "The first is row 2, 'Bad', where it has 'Other'."
    )


@pytest.mark.parametrize(
    ("strategy", "rows", "message"),
    [
        ("label", ["Good,", "Bad,negative", "Good,"], "no valid label for 2 of 3 .* row 1"),
        (
            "probabilities",
            ["Good,positive", "Bad,negative", "Good,positive"],
            "but no probabilities",
        ),
    ],
)
def test_missing_predictions_that_the_strategy_shows_are_refused(
    strategy: str, rows: list[str], message: str
) -> None:
    Path("adviser.csv").write_text("\n".join(["text,prediction", *rows]) + "\n")
    with pytest.raises(InputError, match=message):
        given_to(files("test.csv"), strategy={"name": strategy, "encoder": "adviser.csv"})


def test_probabilities_missing_in_some_rows_are_refused() -> None:
    Path("adviser.csv").write_text(
        'text,prediction,probabilities\nGood,positive,"[0.1, 0.2, 0.7]"\nBad,negative,\n'
        'Good,positive,"[0.1, 0.2, 0.7]"\n'
    )
    strategy = {"name": "probabilities", "encoder": "adviser.csv"}
    with pytest.raises(InputError, match=r"no probabilities for 1 of 3 examples, .* row 2"):
        given_to(files("test.csv"), strategy=strategy)


def test_an_adviser_with_other_classes_is_refused() -> None:
    Path("adviser.csv").write_text(
        "text,gold,prediction\nGood,spam,spam\nBad,ham,ham\nGood,ham,ham\n"
    )
    with pytest.raises(InputError, match="has the classes ham, spam; the dataset has negative"):
        given_to(files("test.csv"), strategy={"name": "label", "encoder": "adviser.csv"})


def test_an_augmented_file_provides_the_adviser_prediction_recorded_in_it() -> None:
    Path("e3.csv").write_text(
        "review,classification,prediction,match,classifier_decision,source\n"
        "Good,positive,positive,True,neutral,a\nBad,negative,positive,True,negative,a\n"
        "Good,positive,positive,True,positive,a\n"
    )
    found = given_to(files("test.csv"), strategy={"name": "label", "encoder": "e3.csv#encoder"})
    assert shown_labels(found) == ["neutral", "negative", "positive"]


def test_a_strategy_that_needs_an_adviser_and_has_none_is_refused() -> None:
    for name in ("label", "probabilities", "examples", "all"):
        with pytest.raises(InputError, match=r"strategy\.adviser: the strategy '.*' shows a pre"):
            make_components(dataset={"name": "demo"}, llm=LLM, strategy={"name": name})


def test_an_adviser_that_does_not_exist_is_refused() -> None:
    strategy = {"name": "label", "encoder": "runs/none"}
    with pytest.raises(InputError, match=r"encoder runs/none does not exist\. Train it"):
        given_to(files("test.csv"), strategy=strategy)


def test_a_run_as_adviser_gives_its_recorded_predictions_of_the_split(
    trained_run: Path, reviews: Path
) -> None:
    recorded = sentikit.read_run(trained_run)
    dataset = {"name": "files", "test": f"{reviews}/test.csv"}
    strategy = {"name": "probabilities", "encoder": str(trained_run)}
    found = given_to(dataset, strategy=strategy)
    assert shown_labels(found) == [recorded.classes[n] for n in recorded.answers.labels]
    np.testing.assert_array_equal(shown_probabilities(found), recorded.answers.probabilities)


def test_the_model_of_a_run_predicts_texts_it_has_not_recorded(
    trained_run: Path, reviews: Path
) -> None:
    dataset = {"name": "files", "test": f"{reviews}/validation.csv"}
    found = given_to(dataset, strategy={"name": "probabilities", "encoder": str(trained_run)})
    texts = sentikit.open_dataset(dataset).split("test").texts
    classifier = sentikit.load(trained_run, device="cpu")
    expected = classifier.predict_proba(texts)
    np.testing.assert_allclose(shown_probabilities(found), expected, atol=1e-6)
    assert shown_labels(found) == classifier.predict(texts)
    by_folder = given_to(
        dataset, strategy={"name": "probabilities", "encoder": str(trained_run / "model")}
    )
    np.testing.assert_allclose(shown_probabilities(by_folder), expected, atol=1e-6)


def test_predictions_of_an_adviser_model_are_kept_for_a_resumed_run(
    trained_run: Path, reviews: Path
) -> None:
    dataset = {"name": "files", "test": f"{reviews}/validation.csv"}
    strategy = {"name": "label-probabilities", "encoder": str(trained_run / "model")}
    memory = Kept()
    first = given_to(dataset, memory, strategy=strategy)
    (kept,) = memory.values.values()
    kept["said"][5][1] = [0.25, 0.25, 0.5]
    again = given_to(dataset, memory, strategy=strategy)
    assert shown_probabilities(again)[5] == [0.25, 0.25, 0.5]
    assert again[:5] + again[6:] == first[:5] + first[6:]
    other = {"name": "files", "test": f"{reviews}/train.csv"}
    assert len(shown_labels(given_to(other, memory, strategy=strategy))) == 96


class Collected:
    """Keeps the requests of a session instead of asking them."""

    known = 0

    def __init__(self) -> None:
        self.requests: list[extension.ChatRequest] = []

    async def begin(self) -> None:
        """No batch is awaited."""

    def add(
        self, row: int, key: bytes, request: extension.ChatRequest, sent: Mapping[str, Any]
    ) -> None:
        self.requests.append(request)


def test_the_requests_of_a_split_hold_text_labels_prediction_and_occurrence(
    trained_run: Path, reviews: Path, tmp_path: Path
) -> None:
    # The first review comes three times, the second twice.
    lines = (reviews / "test.csv").read_text().splitlines()
    repeated = [*lines[:20], lines[1], lines[2], lines[1]]
    Path("twice.csv").write_text("\n".join(repeated) + "\n")
    components = make_components(
        dataset={"name": "files", "test": "twice.csv"},
        llm={"backend": "replay", "run": str(trained_run)},
        strategy={"name": "label", "adviser": str(trained_run / "model")},
    )
    split = split_to_label(components)
    examples = [row.example for row in SplitRows(split)]
    classifier = LLMClassifier(components, split_context(components, split, default_registry()))
    collected = Collected()
    with RequestSession("", tmp_path / "answers.sqlite") as session:
        session.collect(lambda member: collected)
        assert all(
            prediction.label is None for prediction in classifier.classify(examples, session)
        )
    given = prompt_inputs(components)
    texts = split.examples.texts
    assert len(collected.requests) == len(given) == len(texts) == 22
    for number, (request, own) in enumerate(zip(collected.requests, given, strict=True)):
        assert request.labels == ("negative", "neutral", "positive")
        assert request.text == texts[number]
        assert request.example_id == examples[number].id
        assert request.occurrence == texts[:number].count(request.text)
        assert own.adviser_prediction is not None
        (message,) = request.messages[-1:]
        assert f"Review: {request.text}\n" in message.content
        assert f"Classifier Decision: {own.adviser_prediction.label}\n" in message.content
    assert [request.occurrence for request in collected.requests[-3:]] == [1, 1, 2]


def test_a_broken_strategy_is_named() -> None:
    components = make_components(dataset=files("test.csv"), llm=LLM)
    split = split_to_label(components)

    class Broken(extension.PromptStrategy):
        def messages(self, given: extension.PromptInput) -> list[extension.Message]:
            raise KeyError("oops")

    class Wordy(extension.PromptStrategy):
        def messages(self, given: extension.PromptInput) -> Any:
            return given.text

    for strategy, message in ((Broken, "failed at row 1: KeyError"), (Wordy, "returned 'Good'")):
        own = components.__class__(
            **{**components.__dict__, "strategy": strategy(strategy.Settings())}
        )
        with pytest.raises(sentikit.SentikitError, match=message):
            next(LLMClassifier(own, ContextSource(split.classes)).messages(["Good"], Session()))


def test_a_strategys_parser_may_return_only_labels_of_the_scheme() -> None:
    class Odd(extension.PromptStrategy):
        def messages(self, given: extension.PromptInput) -> list[extension.Message]:
            return [extension.Message("user", given.text)]

        def parse(self, answer: str, classes: Any) -> str | None:
            return {"yes": "positive", "no": "banana"}[answer]

    read = label_reader(Odd(Odd.Settings()), "odd")
    assert read("yes", ("negative", "positive")) == "positive"
    assert read("no", ("negative", "positive")) is None
    with pytest.raises(sentikit.SentikitError, match="'odd' failed to read 'maybe': KeyError"):
        read("maybe", ("negative", "positive"))


def test_the_studys_predictions_belong_to_the_validation_split(shared_data: Path) -> None:
    components = make_components(
        dataset={"name": "merged", "path": str(shared_data / "merged")},
        split="validation",
        llm=LLM,
        strategy={
            "name": "label-probabilities",
            "encoder": str(shared_data / "recorded" / "validation-with-electra-predictions.csv"),
            "label_column": "electra_large_prediction",
            "probabilities_column": "electra_large_probabilities",
        },
    )
    found = prompt_inputs(components)
    assert len(shown_labels(found)) == 5421
    assert found[0].adviser_prediction == sentikit.Prediction(
        "neutral",
        {
            "negative": 0.0002572769590187818,
            "neutral": 0.9571502208709717,
            "positive": 0.04259249195456505,
        },
    )
    wrong = make_components(
        dataset={"name": "merged", "path": str(shared_data / "merged")},
        llm=LLM,
        strategy={
            "name": "label",
            "encoder": str(shared_data / "recorded" / "validation-with-electra-predictions.csv"),
            "label_column": "electra_large_prediction",
        },
    )
    with pytest.raises(InputError, match="6,530 of 6,530 examples are not in it"):
        prompt_inputs(wrong)
