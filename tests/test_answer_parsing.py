"""Parsing of answers: free text is a label only if it clearly names one."""

from __future__ import annotations

import pytest

from sentikit.classifiers.label_reader import parse_label

CLASSES = ("negative", "neutral", "positive")


@pytest.mark.parametrize(
    "answer",
    [
        "positive",
        "Positive",
        " POSITIVE\n",
        "positive.",
        "positive!",
        "'positive'",
        '"Positive."',
        "“positive”",
        "\u2018positive\u2019",
        "**positive**",
        "`positive`",
        "Classification: positive",
        "classification:positive",
        "**Classification:** 'positive'.",
        "Classification: positive\n",
        "The review is warm.\nClassification: positive",
        "Classification: positive\nClassification: Positive.",
        "<think>\nIt may be negative.\n</think>\n\npositive",
        '```json\n{"label": "positive"}\n```',
        "```\npositive\n```",
        '{"Label": "Positive"}',
        '{"classification": "positive"}',
        '{"label": "POSITIVE", "reason": "it is good"}',
        "positive</s>",
        "positive<|eot_id|>",
        "positive.<|im_end|></s>",
        "(positive)",
        "[positive]",
        "- positive",
        "* Positive",
        "positive\u3002",
        "\u00a0positive\u200b\ufeff",
        "Label: positive",
        "**Sentiment: Positive**",
        "Answer: positive",
    ],
)
def test_a_label_is_found_in_any_accepted_wrapping(answer: str) -> None:
    assert parse_label(answer, CLASSES) == "positive"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   \n",
        "mixed",
        "积极",
        "正面",
        "positivo",
        "positive and negative",
        "positive\nnegative",
        "positive, negative",
        "negative/positive",
        "not positive",
        "The sentiment is positive",
        "It is positive. Classification: positive",
        "Classification:",
        "Classification: mixed",
        "Classification: positive\nClassification: negative",
        "Classification: positive\nClassification: mixed",
        "positively",
        "positive</s> or negative",
        "<think>positive",
        "<think>positive</think>",
        "<think>a</think>negative, no: positive",
        "```\npositive\n```\n```\nnegative\n```",
        '{"label": "positive", "class": "negative"}',
        '{"label": ["positive"]}',
        '{"label": 1}',
        '{"verdict": "positive"}',
        "- positive\n- negative",
        "positive 😊",
        "positive\n\nExplanation: because.",
        "positif",
        "1",
        "pos",
    ],
)
def test_an_answer_without_a_single_label_is_invalid(answer: str) -> None:
    assert parse_label(answer, CLASSES) is None


def test_labels_of_several_words_are_parsed() -> None:
    classes = ("very negative", "negative")
    assert parse_label("Very  Negative.", classes) == "very negative"
    assert parse_label("negative", classes) == "negative"


def test_a_huge_answer_is_parsed_quickly() -> None:
    assert parse_label("*" * 200_000 + "x", CLASSES) is None
    assert parse_label("classification" * 20_000, CLASSES) is None
    assert parse_label(" \n" * 200_000, CLASSES) is None
    assert parse_label("<think>" * 50_000, CLASSES) is None
    assert parse_label("```" * 50_000, CLASSES) is None
    assert parse_label("[" * 50_000, CLASSES) is None
    assert parse_label("{" + '{"a":' * 50_000 + "}", CLASSES) is None
    assert parse_label("</s>" * 50_000, CLASSES) is None


def test_labels_that_contain_punctuation_are_parsed() -> None:
    classes = ("-1", "1", "joy!", "(none)")
    assert [parse_label(f" {name}\n", classes) for name in classes] == list(classes)
    assert parse_label("Joy", classes) == "joy!"
    assert parse_label("- 1", classes) == "1"
