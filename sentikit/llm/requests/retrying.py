"""When to try a failed call again, and when to stop trying."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from sentikit.errors import SentikitError
from sentikit.llm.backend import RetryableError

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
#: Tries of a call that is refused for its rate, each after the wait the server asked for.
_MOST_REFUSALS = 50


def backoff(failures: int, source: random.Random) -> float:
    """Return seconds to wait after the given number of failures: doubling, 25 % jitter."""
    wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (failures - 1))
    return wait * source.uniform(0.75, 1.25)


class Tries:
    """The tries of one call, each wait longer than the one before.

    Args:
        source: of jitter.
    """

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
        """Note that a try starts now."""
        if self._failed_at is not None:
            self._last_wait = time.monotonic() - self._failed_at

    def fail(self, error: RetryableError) -> None:
        """Count a failure."""
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

        Args:
            most: tries of a call the server fails at.
            last_answer: when the server last answered any call, on the monotonic clock.
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

    Args:
        seconds: without any answer, after which an error is raised.
        longest_wait: seconds a server may ask to wait.
        clock: seconds, monotonic.

    Attributes:
        last_answer: when that was; before the first answer, when this object was made.
    """

    def __init__(
        self, seconds: float, longest_wait: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._longest_wait, self._clock = seconds, longest_wait, clock
        self.last_answer = clock()
        self._asked_for = 0.0

    def answered(self) -> None:
        """Note that the server works."""
        self.last_answer = self._clock()
        self._asked_for = 0.0

    def heed(self, error: RetryableError) -> None:
        """Note a wait that the server asks for, and stop the run where it is too long.

        Raises:
            SentikitError: it is.
        """
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
        """Build the error that ends the run."""
        silent = self._clock() - self.last_answer
        return SentikitError(
            f"The server has answered nothing for {silent:.0f} s; its last word: "
            f"{error.message} Nothing is lost; go on with --resume when it works again."
        )
