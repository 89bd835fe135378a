"""Calls to an LLM: answered from the journal, or sent with a slot, a reservation and retries."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from sentikit.chat import Answer, ChatRequest, Usage
from sentikit.errors import SentikitError
from sentikit.keys import redacted, secret_values
from sentikit.llm.backend import (
    BackendSession,
    FatalError,
    LLMBackend,
    RejectedError,
    RetryableError,
    answer_problem,
)
from sentikit.llm.prices import Pricing, plain_usd
from sentikit.llm.requests.budget import Budget, Reservation
from sentikit.llm.requests.journal import Record, opening_key, request_key
from sentikit.llm.requests.pacing import MOST, START, Pacer, Patience, Tries
from sentikit.llm.settings import RequestOptions
from sentikit.llm.strategy import LabelReader
from sentikit.registry import default_registry
from sentikit.tracking import LLMCall

#: Rejected calls in a row, without any answer before, after which the run stops.
_MOST_REJECTED = 20
#: Up to so many unanswered rows at a run's end count as failed rows, not as an outage.
_LAST_FEW = 3
#: Distance between the row numbers of two members of a job.
_ROWS_OF_A_MEMBER = 2**40


class FailedCallError(Exception):
    """A failed call: its row fails, while others continue."""


class PendingError(Exception):
    """A request that was collected for a batch or an estimate."""


class StoppedError(Exception):
    """A call that was not made, because the run is ending."""


class Collector(Protocol):
    """Takes the requests without an answer, so that no call is made; counts the `known` ones."""

    known: int

    async def begin(self) -> None: ...

    def add(self, row: int, key: bytes, request: ChatRequest, sent: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Answered:
    """An answer, its cost in picodollars, and whether this row paid for it."""

    answer: Answer
    cost: int | None
    own: bool


class _Call(NamedTuple):
    key: bytes
    row: int
    request: ChatRequest
    #: The request's canonical form, and its worst-case cost in picodollars.
    sent: Mapping[str, Any]
    worst: int | None


class LLMMember:
    """One LLM of a job: makes its calls.

    Attributes:
        collector: takes the requests without an answer while it is set, and no call is made.
        stopping: set when the run ends: no new attempt starts.
        last_rows: set when no more rows follow, so that a few unanswered rows are no outage.
        calling: the tasks that wait for an answer.
        secrets: finds API keys, which a server or a plugin may put into an answer.
    """

    def __init__(
        self,
        pricing: Pricing,
        budget: Budget,
        options: RequestOptions,
        read_label: LabelReader,
        labels: tuple[str, ...],
        number: int = 0,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.backend, self.journal, self.run = pricing.backend, budget.journal, budget.run
        self.pricing, self.budget, self.tally = pricing, budget, budget.tally
        self.options, self.read_label = options, read_label
        self.labels, self.number, self._say = labels, number, say
        fixed = options.in_flight if options.in_flight != "auto" else self.backend.most_in_flight
        self.pacer = Pacer(
            fixed or START,
            fixed or MOST,
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
        )
        self.patience = Patience(options.patience, options.longest_wait)
        self.timeout = None if self.backend.in_process else options.timeout
        self.watch: Callable[[LLMCall], None] | None = None
        self.batched = False
        self.collector: Collector | None = None
        self.stopping = False
        self.last_rows = False
        self.calling: set[asyncio.Task[Any]] = set()
        self._asking: dict[bytes, asyncio.Future[None]] = {}
        self._jitter = random.Random()  # noqa: S311 - jitter
        self._rejected_in_a_row = 0
        self._any_answer = self._queue_reported = False
        secrets = "|".join(map(re.escape, secret_values()))
        self.secrets = re.compile(secrets or "(?!)")
        self.begin()

    def begin(self) -> None:
        """Count from the first row again, for another pass over the same texts."""
        self.numbers = itertools.count(self.number * _ROWS_OF_A_MEMBER)
        self._texts: Counter[int] = Counter()

    def occurrence(self, text: str) -> int:
        """Return how often a text was sent before."""
        self._texts[hash(text)] += 1
        return self._texts[hash(text)] - 1

    async def call(self, request: ChatRequest, row: int, first: bool = True) -> Answered:
        """Answer a request; two equal requests are never in flight together."""
        sent = self.backend.canonical(request)
        key = request_key({**sent, "sample": request.sample} if request.sample else sent)
        while (record := self.journal.find(key)) is None:
            if self.collector is not None:
                if first:
                    self.collector.add(row, key, request, sent)
                raise PendingError
            if key not in self._asking:
                break
            await asyncio.wait([self._asking[key]])
        else:
            return self._found(request, record, row, first)
        worst = self.pricing.worst(request, sent)
        done = self._asking[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._ask(_Call(key, row, request, sent, worst))
        finally:
            del self._asking[key]
            done.set_result(None)

    def _found(self, request: ChatRequest, record: Record, row: int, first: bool) -> Answered:
        """Return an answer from the journal; another run's is priced as of today."""
        cost, own = record.cost, (record.run, record.row) == (self.run, row)
        if record.run != self.run:
            today = self.pricing.cost(record.answer)
            cost = cost if today is None else today
        if self.collector is None:
            self.tally.add(record.answer, cost, own)
            # An earlier process of this run has reported the calls it made.
            if self.watch is not None and (self.batched or not own):
                outcome = {"answer": record.answer, "cost": plain_usd(cost), "cached": not own}
                self._report(request, time.monotonic(), **outcome)
        elif first:
            self.collector.known += 1
        return Answered(record.answer, cost, own)

    async def _ask(self, call: _Call) -> Answered:
        tries: Tries | None = None
        while True:
            try:
                return await self._try(call, tries)
            except RetryableError as error:
                self._stop_in_outage(error)
                self.tally.retries += 1
                tries = tries or Tries(self._jitter)
                tries.fail(error)
                if tries.gives_up(self.options.tries, self.patience.last_answer):
                    number = tries.number - 1
                    raise FailedCallError(f"{error.message} ({number} attempts)") from error
                await asyncio.sleep(tries.wait(error))

    def _stop_in_outage(self, error: RetryableError) -> None:
        """End the run in an outage; if only a few last rows are left, fail those instead."""
        self.patience.note_wait(error)
        if self.patience.exhausted:
            last_few = self.last_rows and len(self._asking) <= _LAST_FEW
            if last_few and self.tally.rows and error.reason != "unreachable":
                raise FailedCallError(error.message) from error
            raise self.patience.outage(error)
        if self.stopping:
            raise StoppedError

    async def _try(self, call: _Call, tries: Tries | None) -> Answered:
        """Make one attempt: reserve its cost, wait for a slot, ask, and settle the cost."""
        task, budget, request = asyncio.current_task(), self.budget, call.request
        assert task is not None
        reserved = await budget.reserve(call.key, call.worst)
        try:
            episode = await self.pacer.acquire()
        except BaseException:
            budget.release(call.key, reserved)
            raise
        if self.stopping:
            self.pacer.release()
            budget.release(call.key, reserved)
            raise StoppedError
        number = 1
        if tries is not None:
            tries.begin()
            number = tries.number
        moment, before = time.monotonic(), self.pacer.answers
        self.calling.add(task)
        try:
            async with asyncio.timeout(self.timeout):
                answer = await self.backend.ask(request)
        except BaseException as failure:
            late = isinstance(failure, TimeoutError) and self.timeout is not None
            error = self._late(failure) if late else failure
            try:
                budget.unsettle(call.key, reserved, error)
                reason, message = _reason(error), str(error) or type(error).__name__
                self._report(request, moment, attempt=number, reason=reason, error=message)
                self._learn_from_error(error, episode, self.pacer.answers - before)
            finally:
                self.pacer.release()
            raise error from error.__cause__
        finally:
            self.calling.discard(task)
        try:
            if problem := answer_problem(answer, request.labels):
                # The provider may have billed it: the reservation counts as spent.
                budget.ledger.lose(reserved)
                message = f"{title_of(self.backend)}: {problem}"
                self._report(request, moment, attempt=number, reason="fatal", error=message)
                raise FatalError(message)
            if self.secrets.search(answer.text) or self.secrets.search(answer.raw):
                answer = without_keys(answer)
            cost = self.pricing.cost(answer)
            if cost is None and budget.ledger.ceiling is not None:
                # If usage or the tier's price is unknown, the worst case counts.
                worst = self.pricing.worst_answered(request, call.sent, answer)
                cost = max(reserved.amount, worst)
            budget.settle(call.key, call.row, reserved, answer, cost)
        finally:
            self.pacer.release()
        self.patience.answered()
        used = answer.usage or Usage()
        self.pacer.answered(answer.rate_limit, used.prompt + used.completion)
        self._rejected_in_a_row, self._any_answer = 0, True
        if self.watch is not None:
            outcome = {"attempt": number, "answer": answer, "cost": plain_usd(cost)}
            self._report(request, moment, **outcome)
        return Answered(answer, cost, own=True)

    def _late(self, failure: BaseException) -> RetryableError:
        error = RetryableError(
            f"No answer within {self.timeout:g} s (llm.timeout), with {self.pacer.in_flight} "
            "calls in flight (llm.in_flight).",
            "network",
        )
        error.__cause__ = failure
        return error

    def _learn_from_error(self, error: BaseException, episode: int, answered: int) -> None:
        """Update the pacing after a failed attempt; a rejection fails the row."""
        if isinstance(error, RetryableError) and isinstance(error.__cause__, TimeoutError):
            self._retry_behind_queue(error, episode, answered)
        if isinstance(error, RetryableError) and error.reason == "rate_limit":
            self.tally.rate_limit_episodes += self.pacer.refused(
                episode, error.retry_after, error.exhausted
            )
        if not isinstance(error, RejectedError):
            return
        self.patience.answered()
        self._rejected_in_a_row += 1
        if not self._any_answer and self._rejected_in_a_row >= _MOST_REJECTED:
            raise FatalError(
                f"The server rejected the first {_MOST_REJECTED} calls; the last: {error.message}"
            ) from error
        raise FailedCallError(error.message) from error

    def _retry_behind_queue(self, error: BaseException, episode: int, answered: int) -> None:
        """Report once that calls wait behind others; such a timeout is not a failure."""
        before, timeout = self.pacer.limit, self.timeout
        if timeout is None or not self.pacer.timed_out(episode, answered, timeout):
            return
        self.patience.answered()
        if self.pacer.limit < before and not self._queue_reported:
            self._queue_reported = True
            self._say(
                f"The server answers about {answered} calls in {timeout:g} s (llm.timeout), too "
                f"few for {before} at a time. Calls that timed out are made again, "
                f"{self.pacer.limit} at a time. To start with that number: --set "
                f"llm.in_flight={self.pacer.limit}"
            )
        raise RetryableError(str(error), "queue") from error

    def _report(self, request: ChatRequest, moment: float, **outcome: Any) -> None:
        if self.watch is None:
            return
        seconds = time.monotonic() - moment
        answer = outcome.get("answer")
        if answer is not None:
            outcome["label"] = self.read_label(answer.text, request.labels)
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


class Opening:
    """The `BackendSession` of `check` and `open`, whose calls count towards the budget."""

    def __init__(
        self, pricing: Pricing, budget: Budget, probabilities: bool, say: Callable[[str], None]
    ) -> None:
        self._pricing, self._budget, self._key = pricing, budget, opening_key(budget.run)
        self.probabilities = probabilities
        self._reserved = Reservation()
        self.say = say
        self.recall, self.remember = budget.journal.recall, budget.journal.remember

    async def run(self, get_ready: Callable[[BackendSession], Awaitable[None]]) -> None:
        """Call `check` or `open`, and resolve a reservation that it did not settle."""
        try:
            await get_ready(self)
            self._lose()
        except BaseException as error:
            self._budget.unsettle(self._key, self._reserved, error)
            raise
        finally:
            self._reserved = Reservation()
            self._budget.in_flight.note()

    async def reserve(self, most: Usage) -> None:
        self._lose()
        prices, tier = self._pricing.prices, self._pricing.backend.service_tier
        worst = None if prices is None else prices.worst(most.prompt, most.completion, tier)
        self._reserved = await self._budget.reserve(self._key, worst)

    def settle(self, used: Usage | None) -> None:
        prices, ledger = self._pricing.prices, self._budget.ledger
        tier = self._pricing.backend.service_tier
        cost = None if prices is None else prices.cost(used, tier)
        if cost is None and ledger.ceiling is not None:
            cost = self._reserved.amount
        if ledger.ceiling is None:
            self._budget.in_flight.remove(self._reserved.worst)
        ledger.release(self._reserved)
        ledger.spent += cost or 0
        self._budget.journal.add_opening(self._budget.run, cost, self._reserved.amount)
        self._reserved = Reservation()

    def _lose(self) -> None:
        """Count an unsettled call at its worst-case cost: it may have been billed."""
        self._budget.ledger.lose(self._reserved)
        self._reserved = Reservation()


def without_keys(answer: Answer) -> Answer:
    return replace(answer, text=redacted(answer.text), raw=redacted(answer.raw))


def title_of(backend: LLMBackend) -> str:
    """Return a backend's name in messages, with its plugin."""
    kind = type(backend)
    place = f"{kind.__module__}:{kind.__qualname__}"
    registered = default_registry().registrations("register_llm_backends")
    found = (one.title for one in registered if one.target in (kind, place))
    return next(found, f"The LLM backend {kind.__name__}")


def _reason(error: BaseException) -> str:
    if isinstance(error, RetryableError):
        return error.reason
    if isinstance(error, RejectedError):
        return "rejected"
    return "fatal" if isinstance(error, SentikitError) else "cancelled"
