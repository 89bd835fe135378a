"""Calls that may be repeated at will, made again where the server fails."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from sentikit.extension import FineTuningSession, RetryableError

from .failures import FINE_TUNING

if TYPE_CHECKING:
    from .client import Connection
    from .finetuning_settings import OpenAIFineTuningSettings

TRIES = 4
_SLICE, _LONGEST = 0.2, 30.0
#: Seconds a server has for an answer; only uploads may take longer.
_ANSWER_SECONDS = 60.0

Result = TypeVar("Result")


class PatientCalls:
    """Calls of one connection; the user's wish to stop cuts every wait short.

    Attributes:
        connection: to the server.
        client: the same, for calls that are answered soon.
    """

    def __init__(
        self, connection: Connection[OpenAIFineTuningSettings], session: FineTuningSession
    ) -> None:
        self.connection, self._session = connection, session
        self.client = connection.client.with_options(timeout=_ANSWER_SECONDS)

    async def once(self, call: Awaitable[Result]) -> Result:
        """Make a call once.

        Raises:
            BackendError: the server refuses or fails.
        """
        return await self.connection.guard(call, FINE_TUNING)

    async def ask(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Make a call, again after a while where the server fails.

        Raises:
            BackendError: the server refuses, or fails again and again.
        """
        for tried in range(1, TRIES + 1):
            try:
                return await self.once(call())
            except RetryableError as error:
                if tried == TRIES:
                    raise
                await self.pause(error, tried)
        raise AssertionError

    async def pause(self, error: RetryableError, tried: int) -> None:
        """Wait as long as the server asks, or longer from try to try."""
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        backoff = min(_LONGEST, self.connection.settings.poll_seconds, 0.5 * 2.0**tried) * jitter
        await self.sleep(error.retry_after or backoff)

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the user's wish to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._session.stop_requested():
            await asyncio.sleep(min(_SLICE, left))
