"""The classification of a job's rows, without importing the code for LLMs."""

from __future__ import annotations

import time
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

#: Maximum number of consecutive rows without text to hold back.
_MOST_EMPTY = 8192
#: Seconds between two looks at whether the user asked to stop.
_LOOKED_EVERY = 0.2


def _never() -> bool:
    """Return False: there is no stop request."""
    return False


@dataclass(frozen=True)
class LabellingOptions:
    """Options of the command line that are not part of the recipe.

    Attributes:
        max_cost: maximum cost in USD, or None.
        failure_limit: number of failed rows that ends the job, or None.
        batch: send requests through the provider's batch service.
        resume: resume an unfinished job, or retry the failed rows of a finished one.
        stop_requested: whether the user asked to stop; checked several times a second.
        limit: maximum number of examples to label, or None.
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
    """Yield each row with its checked prediction; rows without text are not classified.

    When the source of `rows` `pauses`, the rows so far are classified as if they were all, because
    a program that writes to a pipe may wait for answers before it sends more.
    """
    waiting: deque[tuple[Row, bool]] = deque()
    pauses: Callable[[], bool] | None = getattr(rows, "pauses", None)
    source, ended, looked = iter(rows), False, 0.0

    def examples() -> Iterator[Example]:
        """Yield texts until many consecutive rows have none, so that those need not wait."""
        nonlocal ended
        empty = 0
        for row in source:
            has_text = row.has_text
            waiting.append((row, has_text))
            empty = 0 if has_text else empty + 1
            if has_text:
                yield row.example
            if empty >= _MOST_EMPTY or (pauses is not None and pauses()):
                return
        ended = True

    while not ended:
        with closing(checked("The classifier", classifier, examples(), session)) as answered:
            for _, prediction in answered:
                if time.monotonic() - looked > _LOOKED_EVERY:
                    _stop_if_requested(session)
                    looked = time.monotonic()
                while not waiting[0][1]:
                    yield waiting.popleft()[0], Prediction(None)
                yield waiting.popleft()[0], prediction
        # The last rows may take less time than passes between two looks.
        _stop_if_requested(session)
        while waiting and not waiting[0][1]:
            yield waiting.popleft()[0], Prediction(None)


def _stop_if_requested(session: Session) -> None:
    # With LLMs, the request loops stop.
    if not session.members and session.stop_requested():
        raise Interrupted
