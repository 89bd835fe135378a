"""The pacing of calls: concurrency, rate limits and retries."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from sentikit.chat import RateLimit
from sentikit.errors import SentikitError
from sentikit.llm.backend import RetryableError
from sentikit.stopping import Interrupted

START = 20
MOST = 256
#: Factor on the limit after a rate-limit episode, and seconds without growth after it (as in
#: inspect_ai's adaptive concurrency).
SHRINK, COOL_DOWN = 0.8, 15.0
# A higher limit must raise the rate by this share of its growth; otherwise it is undone.
_LEAST_GAIN, _SETTLED_SECONDS = 0.25, 60.0
#: Seconds between steps up once a server has refused calls.
_STEP_SECONDS = 2.0
_SHORTEST_PHASE, _FEWEST_ANSWERS = 0.25, 20
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
#: Fewer than `_SHARE` refusals among the last calls are isolated; more begin an episode.
_LAST_CALLS, _SHARE = 20, 5
#: For a learned rate: seconds of burst, and its growth in a second without a refusal, before and
#: after the first one.
_BURST, _FAST_GROWTH, _CAREFUL_GROWTH = 0.1, 1.1, 1.04
#: Seconds after which a learned rate is dropped if calls do not reach it.
_UNREACHED = 10.0


@dataclass
class _Phase:
    began: float
    answers: int = 0
    full: bool = False


class Allowance:
    """A token bucket: a rate per second, and bursts of at most `burst` seconds' worth."""

    def __init__(
        self, rate: float, clock: Callable[[], float] = time.monotonic, burst: float = 1.0
    ) -> None:
        self.rate, self._clock, self._burst = rate, clock, burst
        self._level: float = self._most
        self._at = clock()

    @property
    def _most(self) -> float:
        return max(1.0, self.rate * self._burst)

    def wait(self, amount: float = 1.0) -> float:
        """Return the seconds until `amount`, at most a full bucket, is available."""
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._at) * self.rate)
        self._at = now
        return max(0.0, (min(amount, self._most) - self._level) / self.rate)

    def take(self, amount: float) -> None:
        """Take an amount, or return a negative one; the level may fall below 0."""
        self._level -= amount


class Pacer:
    """Grants slots for calls; for one asyncio event loop.

    The limit doubles as long as that raises the rate, until the server first refuses a share of the
    calls, which begins an episode. Each episode shrinks the limit once; after a cool-down it grows
    slowly. In an episode no call starts while the server asks to wait; afterwards calls start one,
    two, four at a time. The answers between two episodes show the rate that the server allows: from
    then on calls start evenly at about that rate, so that few are refused. An isolated refusal
    delays only its own call.
    """

    def __init__(
        self,
        start: int = START,
        most: int = MOST,
        clock: Callable[[], float] = time.monotonic,
        source: random.Random | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self._requests = requests_per_minute and Allowance(requests_per_minute / 60, clock)
        self._tokens = tokens_per_minute and Allowance(tokens_per_minute / 60, clock)
        self._tokens_a_call = 0.0
        self._outcomes: deque[bool] = deque(maxlen=_LAST_CALLS)
        self.limit = min(start, most)
        self.in_flight = 0
        self.episodes = 0
        self._most, self._clock, self._fixed = most, clock, start >= most
        self._source = source or random.Random()  # noqa: S311 - jitter
        self._waiting: deque[asyncio.Future[int]] = deque()
        self.answers = 0
        self._closed_until = self._caught_up = 0.0
        self._ramp: int | None = None
        self._refused_in_a_row = 0
        self._phase = _Phase(clock())
        self._rate_before, self._limit_before = 0.0, self.limit
        self._no_growth_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._learned: Allowance | None = None
        self._last_learned = 0.0
        self._held_back_at = self._episode_began = self._second_began = clock()
        self._answers_since = self._answers_before = 0
        self._growth, self._refused_lately, self._pauses = _FAST_GROWTH, False, True

    @property
    def idle(self) -> int:
        """The number of calls that could start now."""
        if self._clock() < self._closed_until or self._short():
            return 0
        most = self.limit if self._ramp is None else min(self.limit, self._ramp)
        return max(0, most - self.in_flight)

    async def acquire(self) -> int:
        """Wait for a slot; return the episode the call starts in, for `refused`."""
        if self._waiting or not self.idle:
            turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            self._wake()
            try:
                return await turn
            except asyncio.CancelledError:
                self._forget(turn)
                raise
        self._grant()
        return self.episodes

    def release(self) -> None:
        self.in_flight -= 1
        self._wake()

    def answered(self, rate_limit: RateLimit | None = None, tokens: int = 0) -> None:
        self._refused_in_a_row = 0
        self._outcomes.append(False)
        self._note_tokens(tokens)
        if self._ramp is not None:
            self._ramp = self._ramp * 2 if self._ramp * 2 < self.limit else None
        if rate_limit is not None:
            self._apply_quota(rate_limit, tokens)
        self.answers += 1
        self._phase.answers += 1
        self._answers_since += 1
        self._consider_growth()
        self._adapt_rate()

    def refused(self, episode: int, retry_after: float | None, exhausted: bool = False) -> bool:
        """Learn from a 429, and return whether it began a new episode."""
        if self._tokens:
            self._tokens.take(-self._tokens_a_call)
        new = episode == self.episodes
        if new:
            self._outcomes.append(True)
        recovering = self._ramp is not None
        share = _SHARE if self._learned is None else _LAST_CALLS // 2
        if new and not (exhausted or recovering or self._outcomes.count(True) >= share):
            self._refused_lately = True
            self._adapt_rate()
            return False
        if new:
            known = self._learned is not None
            self._learn_rate()
            # If the rate has just been learned, calls continue at it instead of waiting.
            self._pauses = known or exhausted or self._learned is None
            self._outcomes.clear()
            self.episodes += 1
            self._refused_in_a_row += 1
            self.limit = self.limit if self._learned else max(1, int(self.limit * SHRINK))
            self._no_growth_until = self._clock() + COOL_DOWN
        self._ramp = None if self._learned else 1
        if self._pauses or exhausted:
            self._close(self._pause() if retry_after is None else retry_after)
        return new

    def timed_out(self, episode: int, answered: int, timeout: float) -> bool:
        """Learn from a call without an answer in time; return whether it waited behind others.

        It did if the server `answered` some calls meanwhile, but too few for so many in flight;
        then half of that number run at a time. A server may go on with calls that have timed out,
        so until it has caught up, further timeouts are due to waiting, too.
        """
        now, fitting = self._clock(), max(1, answered // 2)
        if answered and fitting < self.limit and episode == self.episodes and not self._fixed:
            self.limit = self._limit_before = fitting
            self._rate_before = 0.0
            self.episodes += 1
            self._caught_up = now + self.in_flight * timeout / answered
            self._no_growth_until, self._phase = now + _SETTLED_SECONDS, _Phase(now)
        return now < self._caught_up

    def _learn_rate(self) -> None:
        """Set the allowed rate to that of the answers since the last episode."""
        now = self._clock()
        lasted = now - self._episode_began
        if self.episodes and lasted >= 1 and self._answers_since >= _FEWEST_ANSWERS:
            # Calls in flight count in part: the server may have accepted them.
            rate = (self._answers_since + self.in_flight / 2) / lasted
            self._learned = Allowance(rate, self._clock, _BURST)
            # An episode with long waits shows too low a rate, so one episode at most halves it.
            self._last_learned = max(rate, self._last_learned / 2)
            self._growth, self._held_back_at = _FAST_GROWTH, now
        self._episode_began, self._answers_since = now, 0
        self._second_began, self._answers_before = now, 0

    def _adapt_rate(self) -> None:
        """Adjust the learned rate once a second; drop it if calls no longer reach it."""
        now = self._clock()
        lasted = now - self._second_began
        if self._learned is None or lasted < 1:
            return
        if self._refused_lately:
            # While a server refuses some calls, it allows what it accepts; a second in which it
            # accepts none, as at the end of a fixed window, says little.
            accepted = (self._answers_since - self._answers_before) / lasted
            lowest = max(accepted, self._learned.rate / 2, self._last_learned / 2)
            self._learned.rate = min(self._learned.rate, lowest)
            self._growth = _CAREFUL_GROWTH
        else:
            self._learned.rate *= self._growth
        self._second_began, self._answers_before = now, self._answers_since
        self._refused_lately = False
        if now - self._held_back_at > _UNREACHED:
            self._learned = None

    def _short(self) -> float:
        """Return the seconds until the allowances have room for a call."""
        wait = 0.0
        if self._learned and (wait := self._learned.wait()):
            self._held_back_at = self._clock()
        if self._requests:
            wait = max(wait, self._requests.wait())
        if self._tokens:
            wait = max(wait, self._tokens.wait(self._tokens_a_call))
        return wait

    def _note_tokens(self, tokens: int) -> None:
        """Correct the tokens taken for a call, and the expected tokens of the next."""
        if self._tokens:
            self._tokens.take(tokens - self._tokens_a_call)
        before = self._tokens_a_call or tokens
        self._tokens_a_call = before + (tokens - before) / _LAST_CALLS

    def _grant(self) -> None:
        self.in_flight += 1
        if self._learned:
            self._learned.take(1)
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(self._tokens_a_call)
        if self.in_flight >= self.limit:
            self._phase.full = True

    def _pause(self) -> float:
        """Return a pause for when the server names none: doubling, with jitter."""
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** max(0, self._refused_in_a_row - 1))
        return pause * self._source.uniform(0.75, 1.25)

    def _apply_quota(self, left: RateLimit, tokens: int) -> None:
        if left.requests == 0 and left.requests_reset:
            self._close(min(_LONGEST_PAUSE, left.requests_reset))
        if left.tokens is not None and left.tokens_reset and 0 <= left.tokens < tokens:
            self._close(min(_LONGEST_PAUSE, left.tokens_reset))

    def _close(self, seconds: float) -> None:
        # A little longer than asked: clocks may differ, and clients should not act in step.
        until = self._clock() + seconds + self._source.uniform(0.01, 0.05 + 0.05 * min(seconds, 10))
        if until > self._closed_until:
            self._closed_until = self._second_began = until
            self._answers_before = self._answers_since
            self._phase = _Phase(until)
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(self._short(), self._closed_until - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        while self._waiting and self.idle:
            turn = self._waiting.popleft()
            if not turn.done():
                self._grant()
                turn.set_result(self.episodes)
        if self._waiting and (self._clock() < self._closed_until or self._short()):
            self._set_timer()

    def _forget(self, turn: asyncio.Future[int]) -> None:
        """Undo a cancelled wait, whether or not its slot had been given."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn.done() and not turn.cancelled():
            self.release()

    def _consider_growth(self) -> None:
        phase, now = self._phase, self._clock()
        lasted = now - phase.began
        if lasted < _SHORTEST_PHASE or phase.answers < max(self.limit, _FEWEST_ANSWERS):
            return
        if not phase.full or now < self._no_growth_until or self.limit >= self._most:
            self._phase = _Phase(now)
            return
        rate = phase.answers / lasted
        growth = self.limit / self._limit_before - 1
        if rate > self._rate_before * (1 + _LEAST_GAIN * growth):
            self._limit_before, self._rate_before = self.limit, rate
            step = self.limit if not self.episodes else max(1, self.limit // 10)
            self.limit = min(self._most, self.limit + step)
            if self.episodes:
                self._no_growth_until = now + _STEP_SECONDS
        else:
            self.limit = min(self.limit, self._limit_before)
            self._rate_before = 0.0
            self._no_growth_until = now + _SETTLED_SECONDS
        self._phase = _Phase(now)
        self._wake()


Result = TypeVar("Result")

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
#: Attempts at a call that is refused for its rate, each after the wait the server asked for.
_MOST_REFUSALS = 50
_TICK = 0.2


def backoff(failures: int, source: random.Random) -> float:
    """Return seconds to wait after the given number of failures: doubling, 25 % jitter."""
    wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (failures - 1))
    return wait * source.uniform(0.75, 1.25)


class Tries:
    """The attempts at one call, each wait longer than the one before."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._failed_at: float | None = None
        self._last_wait = 0.0
        self.failures = self.refusals = 0
        self._first_failure = self._first_refusal = float("inf")

    @property
    def number(self) -> int:
        return 1 + self.failures + self.refusals

    def begin(self) -> None:
        if self._failed_at is not None:
            self._last_wait = time.monotonic() - self._failed_at

    def fail(self, error: RetryableError) -> None:
        self._failed_at = time.monotonic()
        if error.reason == "rate_limit":
            self.refusals += 1
            self._first_refusal = min(self._first_refusal, self._failed_at)
        elif error.reason != "queue":
            self.failures += 1
            self._first_failure = min(self._first_failure, self._failed_at)

    def gives_up(self, most: int, last_answer: float) -> bool:
        """Return whether to give this call up: it fails while other calls succeed."""
        failed = self.failures >= most and last_answer > self._first_failure
        refused = self.refusals >= _MOST_REFUSALS and last_answer > self._first_refusal
        return failed or refused

    def wait(self, error: RetryableError) -> float:
        """Return the seconds until the next attempt: as the server asks, or a back-off."""
        if error.retry_after is not None:
            return error.retry_after + self._source.uniform(0.005, 0.05)
        longer = self._last_wait * self._source.uniform(1.25, 1.5)
        return min(_LONGEST_WAIT, max(longer, backoff(self.number - 1, self._source)))


class Patience:
    """Detects an outage: no answer to any call for some seconds.

    The longest wait that the server asked for since its last answer is added once: otherwise a
    server that is down and asks every row to wait a little would never count as an outage.
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

    def note_wait(self, error: RetryableError) -> None:
        """Note a wait that the server asks for; raise an error if it is too long."""
        asked = error.retry_after or 0.0
        if asked > self._longest_wait:
            raise SentikitError(
                f"The server asks to wait {asked:,.0f} s ({error.message}). All answers are kept. "
                "Resume later with --resume, or allow the wait with --set llm.longest_wait=…"
            )
        self._asked_for = max(self._asked_for, asked)

    @property
    def exhausted(self) -> bool:
        return self._clock() - self.last_answer > self._seconds + self._asked_for

    def outage(self, error: RetryableError) -> SentikitError:
        silent = self._clock() - self.last_answer
        return SentikitError(
            f"The server has not answered for {silent:.0f} s; its last error: {error.message} "
            "All answers are kept; resume with --resume when it works again."
        )


async def with_retries(
    call: Callable[[], Coroutine[Any, Any, Result]],
    patience: Patience,
    most: int,
    stop_requested: Callable[[], bool],
    advice: str = "",
) -> Result:
    """Make a call, and retry while the server fails, `most` times in all."""
    source = random.Random()  # noqa: S311 - jitter
    failures = 0
    while True:
        try:
            return await unless_stopped(call(), stop_requested)
        except RetryableError as error:
            failures += 1
            if failures == most:
                raise SentikitError(f"{error.message}{advice}") from error
            patience.note_wait(error)
            pause = (error.retry_after or 0) + backoff(failures, source)
            await unless_stopped(asyncio.sleep(pause), stop_requested)


async def unless_stopped(
    work: Coroutine[Any, Any, Result], stop_requested: Callable[[], bool]
) -> Result:
    """Await some work; raise `Interrupted` when the user asks to stop."""
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
