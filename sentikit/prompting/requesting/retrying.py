"""When to try a failed call again, and when to stop trying."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from sentikit.errors import SentikitError
from sentikit.prompting.backend import RetryableError

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


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
        self.first_failure = float("inf")

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
        else:
            self.failures += 1
            self.first_failure = min(self.first_failure, self._failed_at)

    def wait(self, error: RetryableError) -> float:
        """Return the seconds until the next try: what the server asks for, or a back-off."""
        if error.retry_after is not None:
            return error.retry_after + self._source.uniform(0.01, 0.25)
        longer = self._last_wait * self._source.uniform(1.25, 1.5)
        return min(_LONGEST_WAIT, max(longer, backoff(self.number - 1, self._source)))


class Patience:
    """Knows when the server last answered anything, so that an outage stops the run.

    Args:
        seconds: without any answer, after which an error is raised.
        longest_wait: seconds a server may ask to wait.
        clock: seconds, monotonic.
    """

    def __init__(
        self, seconds: float, longest_wait: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._longest_wait, self._clock = seconds, longest_wait, clock
        self.last_answer = clock()

    def answered(self) -> None:
        """Note that the server works."""
        self.last_answer = self._clock()

    def waited(self, seconds: float) -> None:
        """Note that nothing was asked for some time because the server wanted that."""
        self.last_answer = max(self.last_answer, min(self._clock(), self.last_answer + seconds))

    def check_wait(self, error: RetryableError) -> None:
        """Stop the run where the server asks to wait for too long.

        Raises:
            SentikitError: it does.
        """
        if error.retry_after is not None and error.retry_after > self._longest_wait:
            raise SentikitError(
                f"The server asks to wait {error.retry_after:,.0f} s ({error.message}). Nothing "
                "is lost; go on later with --resume, or allow the wait: --set llm.longest_wait=…"
            )

    @property
    def exhausted(self) -> bool:
        """Whether nothing was answered for too long."""
        return self._clock() - self.last_answer > self._seconds

    def outage(self, error: RetryableError) -> SentikitError:
        """Build the error that ends the run."""
        silent = self._clock() - self.last_answer
        return SentikitError(
            f"The server has answered nothing for {silent:.0f} s; its last word: "
            f"{error.message} Nothing is lost; go on with --resume when it works again."
        )
