"""The tries of calls that fail: how long to wait between them, and when to give up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sentikit.errors import SentikitError
from sentikit.llm.backend import RetryableError
from sentikit.stopping import Interrupted

Result = TypeVar("Result")

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
#: Tries of a call that is refused for its rate, each after the wait the server asked for.
_MOST_REFUSALS = 50
_TICK = 0.2


def backoff(failures: int, source: random.Random) -> float:
    """Return seconds to wait after the given number of failures: doubling, 25 % jitter."""
    wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (failures - 1))
    return wait * source.uniform(0.75, 1.25)


class Tries:
    """The tries of one call, each wait longer than the one before."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._failed_at: float | None = None
        self._last_wait = 0.0
        self.failures = 0
        self.refusals = 0
        self._first_failure = self._first_refusal = float("inf")

    @property
    def number(self) -> int:
        """The number of the next try, from 1."""
        return 1 + self.failures + self.refusals

    def begin(self) -> None:
        if self._failed_at is not None:
            self._last_wait = time.monotonic() - self._failed_at

    def fail(self, error: RetryableError) -> None:
        self._failed_at = time.monotonic()
        if error.reason == "rate_limit":
            self.refusals += 1
            self._first_refusal = min(self._first_refusal, self._failed_at)
        else:
            self.failures += 1
            self._first_failure = min(self._first_failure, self._failed_at)

    def hopeless(self, most: int, last_answer: float) -> bool:
        """Return whether this call is given up.

        During an outage all rows fail; only where others succeed is this one to blame.
        """
        failed = self.failures >= most and last_answer > self._first_failure
        refused = self.refusals >= _MOST_REFUSALS and last_answer > self._first_refusal
        return failed or refused

    def wait(self, error: RetryableError) -> float:
        """Return the seconds until the next try: what the server asks for, or a back-off."""
        if error.retry_after is not None:
            return error.retry_after + self._source.uniform(0.01, 0.25)
        longer = self._last_wait * self._source.uniform(1.25, 1.5)
        return min(_LONGEST_WAIT, max(longer, backoff(self.number - 1, self._source)))


class Patience:
    """Knows when the server last answered anything, so that an outage stops the run.

    The longest wait that the server asked for since its last answer is waited for in addition. It
    counts once: a server that is down and asks every row, again and again, to wait a little would
    otherwise be waited for without end.
    """

    def __init__(
        self, seconds: float, longest_wait: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._longest_wait, self._clock = seconds, longest_wait, clock
        self.last_answer = clock()
        self._asked_for = 0.0

    def answered(self) -> None:
        self.last_answer = self._clock()
        self._asked_for = 0.0

    def heed(self, error: RetryableError) -> None:
        """Note a wait that the server asks for, and stop the run where it is too long."""
        asked = error.retry_after or 0.0
        if asked > self._longest_wait:
            raise SentikitError(
                f"The server asks to wait {asked:,.0f} s ({error.message}). Nothing "
                "is lost; go on later with --resume, or allow the wait: --set llm.longest_wait=…"
            )
        self._asked_for = max(self._asked_for, asked)

    @property
    def exhausted(self) -> bool:
        """Whether nothing was answered for too long."""
        return self._clock() - self.last_answer > self._seconds + self._asked_for

    def outage(self, error: RetryableError) -> SentikitError:
        silent = self._clock() - self.last_answer
        return SentikitError(
            f"The server has answered nothing for {silent:.0f} s; its last word: "
            f"{error.message} Nothing is lost; resume with --resume when it works again."
        )


async def patiently(
    call: Callable[[], Coroutine[Any, Any, Result]],
    patience: Patience,
    most: int,
    stop_requested: Callable[[], bool],
    advice: str = "",
) -> Result:
    """Make a call, again after a while where the server fails, at most so often."""
    source = random.Random()  # noqa: S311 - jitter
    failures = 0
    while True:
        try:
            return await unless_stopped(call(), stop_requested)
        except RetryableError as error:
            failures += 1
            if failures == most:
                raise SentikitError(f"{error.message}{advice}") from error
            patience.heed(error)
            pause = (error.retry_after or 0) + backoff(failures, source)
            await unless_stopped(asyncio.sleep(pause), stop_requested)


async def unless_stopped(
    work: Coroutine[Any, Any, Result], stop_requested: Callable[[], bool]
) -> Result:
    """Do some work until the user asks to stop, which raises `Interrupted`."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_TICK)
            if stop_requested() and not task.done():
                raise Interrupted
        return await task
    finally:
        task.cancel()
        await asyncio.wait([task])
