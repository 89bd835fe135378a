"""Free text is a label only where it is plainly one."""

from __future__ import annotations

import pytest

from sentikit.llm.parsing import parse_label

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
    ],
)
def test_a_label(answer: str) -> None:
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
        "1",
        "pos",
    ],
)
def test_no_label(answer: str) -> None:
    assert parse_label(answer, CLASSES) is None


def test_labels_of_several_words() -> None:
    classes = ("very negative", "negative")
    assert parse_label("Very  Negative.", classes) == "very negative"
    assert parse_label("negative", classes) == "negative"


def test_a_huge_answer_is_read_quickly() -> None:
    assert parse_label("*" * 200_000 + "x", CLASSES) is None
    assert parse_label("classification" * 20_000, CLASSES) is None
    assert parse_label(" \n" * 200_000, CLASSES) is None
