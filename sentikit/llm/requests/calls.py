"""Makes one call: from the cache if it is there, else with a slot, a budget and retries."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sentikit.classifiers.prediction import Usage
from sentikit.errors import SentikitError
from sentikit.keys import redacted, secret_values
from sentikit.llm.backend import (
    Answer,
    ChatRequest,
    FatalError,
    LLMBackend,
    RejectedError,
    RetryableError,
    answer_problem,
)
from sentikit.llm.prices import usd
from sentikit.llm.requests.budget import Budget, Reservation
from sentikit.llm.requests.journal import AnswerJournal, Record, request_key
from sentikit.llm.requests.pacing import MOST, START, Pacer, Patience, Tries
from sentikit.llm.settings import RequestOptions
from sentikit.tracking import LLMCall

#: Rejections in a row, with no answer before them, after which no row is expected to succeed.
_HOPELESS = 20
#: Rows without an answer at a run's end which are taken for rows that fail, not for an outage.
_LAST_FEW = 3


class FailedCallError(Exception):
    """This call cannot be answered; the row fails, others go on."""


class PendingError(Exception):
    """This call was collected to be made later, or to be counted."""


class Collector(Protocol):
    """Takes requests that are not answered yet instead of making calls.

    Attributes:
        known: how many requests had an answer.
    """

    known: int

    async def begin(self) -> None:
        """Get ready, once the LLM is open."""

    def add(self, row: int, key: bytes, request: ChatRequest) -> None:
        """Take a request; `key` is the journal's."""


class StoppedError(Exception):
    """No call is made any more, because the run is ending."""


@dataclass(frozen=True)
class Answered:
    """A call's outcome: what came back, what it cost, and whether this row paid for it."""

    answer: Answer
    cost: int | None
    own: bool


class Caller:
    """Makes calls for one run.

    Attributes:
        collector: takes the requests without an answer while it is set, and no call is made.
        stopping: set when the run ends: nothing new is tried.
        last_rows: set when no more rows will come, so that a row that alone cannot be answered is
            no outage.
        calling: the tasks that wait for an answer.
    """

    def __init__(
        self,
        backend: LLMBackend,
        journal: AnswerJournal,
        run: str,
        budget: Budget,
        options: RequestOptions,
        watch: Callable[[LLMCall], None] | None = None,
        batched: bool = False,
    ) -> None:
        self.backend, self.journal, self.run = backend, journal, run
        self.budget, self.ledger, self.tally = budget, budget.ledger, budget.tally
        fixed = options.in_flight if isinstance(options.in_flight, int) else backend.most_in_flight
        self.pacer = Pacer(
            fixed or START,
            fixed or MOST,
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
        )
        self.patience = Patience(options.patience, options.longest_wait)
        self.timeout = None if backend.in_process else options.timeout
        self.tries = options.tries
        self.watch, self.batched = watch, batched
        self.collector: Collector | None = None
        self.stopping = False
        self.last_rows = False
        self.calling: set[asyncio.Task[Any]] = set()
        self._asking: dict[bytes, asyncio.Future[None]] = {}
        self._jitter = random.Random()  # noqa: S311 - jitter
        self._rejected_in_a_row = 0
        self._any_answer = False
        self._secrets = tuple(secret_values())

    async def call(self, request: ChatRequest, row: int, first: bool = True) -> Answered:
        """Answer a request; the same request is never on its way twice.

        Raises:
            PendingError: it was collected.
            FailedCallError: it cannot be answered.
            FatalError: no request can.
            SentikitError: an outage, or no money left.
            StoppedError: the run is ending.
        """
        canonical = self.backend.canonical(request)
        key = request_key({**canonical, "sample": request.sample} if request.sample else canonical)
        while True:
            found = self._found(key, row)
            if found is not None:
                if self.collector is None:
                    self._tell_found(request, found)
                elif first:
                    self.collector.known += 1
                return found
            if self.collector is not None:
                if first:
                    self.collector.add(row, key, request)
                raise PendingError
            if key not in self._asking:
                break
            await asyncio.wait([self._asking[key]])
        done = self._asking[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._ask(key, request, row)
        finally:
            del self._asking[key]
            done.set_result(None)

    def unsettle(self, key: bytes, reserved: Reservation, error: BaseException) -> None:
        """Give a failed call's reservation back, unless the provider may have billed its answer."""
        refused = isinstance(error, RejectedError | FatalError) or (
            isinstance(error, RetryableError) and error.reason != "network"
        )
        if refused:
            self._release(key, reserved)
        elif not isinstance(error, SentikitError) or isinstance(error, RetryableError):
            self.ledger.lose(reserved)

    def _found(self, key: bytes, row: int) -> Answered | None:
        """Return an answer that was there before; another run's is priced as of today."""
        record = self.journal.find(key)
        if record is None:
            return None
        cost, own = record.cost, (record.run, record.row) == (self.run, row)
        if record.run != self.run:
            tier = record.answer.service_tier
            today = self.budget.cost(record.answer, tier, self.backend.service_tier)
            cost = cost if today is None else today
        return Answered(record.answer, cost, own)

    async def _ask(self, key: bytes, request: ChatRequest, row: int) -> Answered:
        """Try until there is an answer or no hope of one."""
        tries = Tries(self._jitter)
        while True:
            try:
                return await self._try(key, request, row, tries)
            except RetryableError as error:
                self._check_hope(error)
                self.tally.retries += 1
                tries.fail(error)
                if tries.hopeless(self.tries, self.patience.last_answer):
                    number = tries.number - 1
                    raise FailedCallError(f"{error.message} ({number} tries)") from error
                await asyncio.sleep(tries.wait(error))

    def _check_hope(self, error: RetryableError) -> None:
        """End the run in an outage; the last rows of one that was answered fail by themselves."""
        self.patience.heed(error)
        if self.patience.exhausted:
            if self._row_is_to_blame(error):
                raise FailedCallError(error.message) from error
            raise self.patience.outage(error)
        if self.stopping:
            raise StoppedError

    def _row_is_to_blame(self, error: RetryableError) -> bool:
        """Say whether a row that is not answered is no outage: it is one of the last few."""
        few = len(self._asking) <= _LAST_FEW
        return self.last_rows and few and self.tally.rows > 0 and error.reason != "unreachable"

    async def _try(self, key: bytes, request: ChatRequest, row: int, tries: Tries) -> Answered:
        """Make one try, with a slot and a reservation held."""
        reserved = await self._reserve(key, request)
        episode = await self._slot(key, reserved)
        tries.begin()
        moment = time.monotonic()
        try:
            answer = await self._within_time(request)
        except BaseException as error:
            self.unsettle(key, reserved, error)
            reason, said = _reason(error), str(error) or type(error).__name__
            self._tell(request, moment, attempt=tries.number, reason=reason, error=said)
            self._blame(error, episode)
            raise
        finally:
            self.pacer.release()
        if problem := answer_problem(answer, request.labels):
            # The provider may have billed it: what was reserved counts as spent.
            self.ledger.lose(reserved)
            said = f"The LLM backend {type(self.backend).__name__}: {problem}"
            self._tell(request, moment, attempt=tries.number, reason="fatal", error=said)
            raise FatalError(said)
        answer = self.without_keys(answer)
        cost = self._settle(request, reserved, answer)
        self.journal.keep(key, Record(self.run, row, cost, answer), reserved.amount)
        self._learn(answer)
        self._tell(request, moment, attempt=tries.number, answer=answer, cost=_dollars(cost))
        return Answered(answer, cost, own=True)

    async def _slot(self, key: bytes, reserved: Reservation) -> int:
        try:
            episode = await self.pacer.acquire()
        except BaseException:
            self._release(key, reserved)
            raise
        if self.stopping:
            self.pacer.release()
            self._release(key, reserved)
            raise StoppedError
        return episode

    async def _within_time(self, request: ChatRequest) -> Answer:
        task = asyncio.current_task()
        assert task is not None
        self.calling.add(task)
        try:
            async with asyncio.timeout(self.timeout):
                return await self.backend.ask(request)
        except TimeoutError as error:
            raise RetryableError(
                f"No answer within {self.timeout:g} s (llm.timeout).", "network"
            ) from error
        finally:
            self.calling.discard(task)

    def without_keys(self, answer: Answer) -> Answer:
        """Return an answer without any key that the server, or a plugin, put into it."""
        if not any(key in answer.text or key in answer.raw for key in self._secrets):
            return answer
        return replace(answer, text=redacted(answer.text), raw=redacted(answer.raw))

    async def _reserve(self, key: bytes, request: ChatRequest) -> Reservation:
        if self.ledger.ceiling is None:
            return Reservation()
        worst = self.worst_cost(request)
        assert worst is not None
        reserved = await self.ledger.reserve(worst)
        self.journal.reserve(key, self.run, reserved.amount)
        return reserved

    def worst_cost(
        self, request: ChatRequest, tier: str | None = None, unmetered: bool = False
    ) -> int | None:
        """Return the most a request can cost, in picodollars; None where prices are unknown."""
        sent, asked = self.backend.canonical(request), tier or self.backend.service_tier
        return self.budget.worst(request, sent, asked, unmetered)

    def _settle(self, request: ChatRequest, reserved: Reservation, answer: Answer) -> int | None:
        cost = self.budget.cost(answer, answer.service_tier, self.backend.service_tier)
        if cost is None and self.ledger.ceiling is not None:
            # Where usage, or the price of the tier that served, is unknown, the worst case stands.
            unmetered = self.worst_cost(request, unmetered=True) or 0
            cost = max(reserved.amount, unmetered)
        self.ledger.settle(reserved, cost or 0)
        return cost

    def _release(self, key: bytes, reserved: Reservation) -> None:
        if self.ledger.ceiling is not None:
            self.ledger.release(reserved)
            self.journal.release(key, self.run, reserved.amount)

    def _learn(self, answer: Answer) -> None:
        self.patience.answered()
        self._rejected_in_a_row = 0
        self._any_answer = True
        used = answer.usage or Usage()
        self.pacer.answered(answer.rate_limit, used.prompt + used.completion)

    def _blame(self, error: BaseException, episode: int) -> None:
        """Update the pacing after a failed try; a rejection becomes the row's failure."""
        if isinstance(error, RetryableError) and error.reason == "rate_limit":
            self.tally.limited += self.pacer.refused(episode, error.retry_after, error.exhausted)
        if not isinstance(error, RejectedError):
            return
        self.patience.answered()
        self._rejected_in_a_row += 1
        if not self._any_answer and self._rejected_in_a_row >= _HOPELESS:
            raise FatalError(
                f"The first {_HOPELESS} calls were refused, the last with: {error.message}"
            ) from error
        raise FailedCallError(error.message) from error

    def _tell(self, request: ChatRequest, moment: float, **outcome: Any) -> None:
        """Tell the watcher of what began at a `moment` of the monotonic clock."""
        if self.watch is None:
            return
        seconds = time.monotonic() - moment
        self.watch(
            LLMCall(
                request=request,
                model=self.backend.model,
                parameters=self.backend.parameters(request),
                began=time.time() - seconds,
                seconds=seconds,
                **outcome,
            )
        )

    def _tell_found(self, request: ChatRequest, found: Answered) -> None:
        """Tell of an answer out of the journal; what an earlier sitting asked was told there."""
        if self.watch is not None and (self.batched or not found.own):
            cost = _dollars(found.cost)
            told = {"answer": found.answer, "cost": cost, "cached": not found.own}
            self._tell(request, time.monotonic(), **told)


def _dollars(cost: int | None) -> float | None:
    return None if cost is None else usd(cost)


def _reason(error: BaseException) -> str:
    """Say in a word why a call failed."""
    if isinstance(error, RetryableError):
        return error.reason
    if isinstance(error, RejectedError):
        return "rejected"
    return "fatal" if isinstance(error, SentikitError) else "cancelled"
