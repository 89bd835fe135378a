"""Refusals of training files that a fine-tuning service would refuse."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sentikit.plugins.gpt_finetune.examples import LearntExample, SplitExaminer, training_line

from sentikit import InputError
from sentikit.extension import FineTuningLimits, Message

LABELS = ("negative", "neutral", "positive")
ASKED = (Message("system", "Be brief."), Message("user", "I love it"))


def example(
    messages: Sequence[Message], label: str = "positive", text: str = "I love it"
) -> LearntExample:
    spoken = (*messages, Message("assistant", label))
    return LearntExample("x1", text, label, spoken, training_line(messages, label), tokens=9)


def examiner(context: int | None = None, **limits: int) -> SplitExaminer:
    return SplitExaminer("train", LABELS, FineTuningLimits(**limits), context)


@pytest.mark.parametrize(
    ("messages", "label", "reason"),
    [
        (ASKED, "", "the assistant message is empty"),
        (ASKED, "  ", "the assistant message is empty"),
        (ASKED, "mixed", "the last message must be the assistant's, and one of negative, neutral"),
        (ASKED[:1], "positive", "there is no user message to answer"),
        (ASKED[::-1], "positive", "the system message must come first"),
        ((Message("user", " "),), "positive", "the user message is empty"),
        ((Message("tool", "x"),), "positive", "the role 'tool' is not one of system, user"),  # type: ignore[arg-type]
    ],
)
def test_conversations_that_no_service_accepts_are_refused(
    messages: Sequence[Message], label: str, reason: str
) -> None:
    with pytest.raises(InputError, match="Example 1 of split 'train'") as refused:
        examiner().add(example(messages, label))
    assert reason in refused.value.message


def test_too_few_too_long_and_too_large_examples_are_reported_together() -> None:
    found = examiner(context=8, most_bytes=100)
    found.add(example(ASKED))
    few, long, large = found.problems(fewest=10)
    assert "has 1 examples and at least 10 are needed" in few
    assert "1 of 1 examples of split 'train' exceed the 8 tokens" in long
    assert "and the provider accepts at most 100" in large


def test_suspicious_but_valid_examples_are_counted() -> None:
    found = examiner()
    for text, label in [("Fine.", "neutral"), ("fine.  ", "neutral"), ("FINE.", "positive")]:
        found.add(example(ASKED, label, text))
    report = found.report()
    assert (report.examples, report.duplicates, report.contradictions) == (3, 2, 1)
    assert report.labels == {"negative": 0, "neutral": 2, "positive": 1}
    assert (report.tokens, report.longest, report.longest_id) == (27, 9, "x1")
    assert report.bytes == 3 * len(training_line(ASKED, "neutral")) + 1
    assert found.problems(fewest=1) == []
