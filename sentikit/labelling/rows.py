"""The rows of a labelling job on their way through a classifier; nothing of LLMs is imported."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentikit.classifiers.classifier import Classifier, Example, Session, checked
from sentikit.classifiers.prediction import Prediction
from sentikit.runs.writer import Row
from sentikit.stopping import Interrupted

if TYPE_CHECKING:
    from sentikit.llm.settings import FailureLimit

#: Rows without text, one after the other, that are held back at most.
_MOST_EMPTY = 8192


def _never() -> bool:
    """Say that nobody asks to stop, and that no source pauses."""
    return False


@dataclass(frozen=True)
class LabellingOptions:
    """What a user decides at the command line and not in the recipe.

    Attributes:
        max_cost: USD for all that is asked, or None.
        failure_limit: how many failing rows end the job, or None.
        batch: send requests through the provider's batch service.
        resume: resume an unfinished job, or ask again about the failed rows of a finished one.
        stop_requested: checked several times a second.
        limit: label so many examples of a split at most, or None.
    """

    max_cost: float | None = None
    failure_limit: FailureLimit | None = None
    batch: bool = False
    resume: bool = False
    stop_requested: Callable[[], bool] = _never
    limit: int | None = None


def predicted(
    classifier: Classifier, rows: Iterable[Row], session: Session
) -> Iterator[tuple[Row, Prediction]]:
    """Yield each row with its checked prediction; one without text is not asked about.

    When the source of `rows` `pauses`, the classifier gets the rows read so far as if they were
    all: a program that writes to a pipe may wait for answers before it sends more.
    """
    waiting: deque[Row] = deque()
    pauses: Callable[[], bool] = getattr(rows, "pauses", _never)
    source, ended = iter(rows), False

    def examples() -> Iterator[Example]:
        """Yield texts until many rows in a row have none: then those need wait no longer."""
        nonlocal ended
        empty = 0
        for row in source:
            waiting.append(row)
            empty = 0 if row.has_text else empty + 1
            if not empty:
                yield row.example
            if empty >= _MOST_EMPTY or pauses():
                return
        ended = True

    def without_text() -> Iterator[tuple[Row, Prediction]]:
        while waiting and not waiting[0].has_text:
            yield waiting.popleft(), Prediction(None)

    while not ended:
        with closing(checked("The classifier", classifier, examples(), session)) as answered:
            for _, prediction in answered:
                if not session.members and session.stop_requested():
                    raise Interrupted
                yield from without_text()
                yield waiting.popleft(), prediction
        yield from without_text()
