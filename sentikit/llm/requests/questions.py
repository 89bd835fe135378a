"""What goes into the request loop and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sentikit.classifiers.prediction import Usage
from sentikit.llm.backend import Answer, ChatRequest

Row = TypeVar("Row")

#: Reads the label out of an answer's text: one of the labels, or None where it is invalid.
LabelReader = Callable[[str, Sequence[str]], str | None]


@dataclass(frozen=True)
class Question(Generic[Row]):
    """One row to ask about.

    Attributes:
        row: whatever the caller wants back with the answer.
        request: what to ask; None where nothing is to be asked, as about a text without words.
        error: why nothing can be asked, where that is a failure.
    """

    row: Row
    request: ChatRequest | None
    error: str | None = None


@dataclass(frozen=True)
class AnsweredQuestion(Generic[Row]):
    """What became of one row.

    Attributes:
        question: as it went in.
        label: one of the request's labels; None where no answer was valid or the row failed.
        answers: the first try and, where that was invalid, the repair; empty where the row failed.
        cost: USD of these answers, whoever paid; None where the model's price is unknown.
        paid: USD of those that were asked for this row and not found in the cache; None likewise.
        saved: whether all answers were found in the cache: of an earlier run or an earlier row.
        error: why the row failed, or None.
        pending: whether the request was collected, for a batch or an estimate, and not asked.
    """

    question: Question[Row]
    label: str | None
    answers: tuple[Answer, ...]
    cost: float | None
    paid: float | None = None
    saved: bool = False
    error: str | None = None
    pending: bool = False

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Label to probability, of the answer that gave the label."""
        if self.label is None or not self.answers:
            return None
        return self.answers[-1].probabilities

    @property
    def usage(self) -> Usage | None:
        """Tokens of all answers; None where there is no answer or one of them has no usage."""
        total = Usage()
        for answer in self.answers:
            if answer.usage is None:
                return None
            total += answer.usage
        return total if self.answers else None

    @property
    def unmetered(self) -> int:
        """How many answers came without usage."""
        return sum(answer.usage is None for answer in self.answers)
