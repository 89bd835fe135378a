"""The session of a labelling job that asks LLMs: one journal, one budget, one event loop."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from sentikit.classifiers.classifier import Session
from sentikit.classifiers.prediction import Usage
from sentikit.errors import InputError, SentikitError
from sentikit.llm.backend import (
    BackendSession,
    BatchBackend,
    FatalError,
    LLMBackend,
    RetryableError,
)
from sentikit.llm.prices import (
    model_facts,
    model_hint,
    picodollars,
    prices_for,
    unknown_price,
    usd,
)
from sentikit.llm.requests.batches import BatchRound
from sentikit.llm.requests.budget import (
    Budget,
    BudgetSpentError,
    Ledger,
    Reservation,
    Tally,
    TokenCounter,
)
from sentikit.llm.requests.calls import Caller, Collector
from sentikit.llm.requests.journal import AnswerJournal, opening_key
from sentikit.llm.requests.loop import (
    AnsweredQuestion,
    LabelReader,
    Question,
    RequestLoop,
    RequestsInterrupted,
    Row,
    cut_answers,
)
from sentikit.llm.requests.pacing import Patience, backoff
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.settings import FailureLimit, RequestOptions
from sentikit.tracking import LLMCall

Result = TypeVar("Result")

#: Default name of the file that keeps answers, beside the run's folder.
CACHE = "answers.sqlite"
_OPENING_TRIES = 4
_TICK = 0.2
#: Rows of the members of a job are numbered apart: by so many.
_ROWS_OF_A_MEMBER = 2**40
#: Answers handed over before the request loop is told that there is room for as many.
_TAKEN_AT_ONCE = 64


class LLMMember:
    """One LLM of a job."""

    def __init__(
        self,
        backend: LLMBackend,
        options: RequestOptions,
        caller: Caller,
        read_label: LabelReader,
        labels: tuple[str, ...],
        number: int,
    ) -> None:
        self.backend, self.options, self.caller = backend, options, caller
        self.read_label, self.labels, self.number = read_label, labels, number
        self.begin()

    def begin(self) -> None:
        """Count from the first row again, for another pass over the same texts."""
        self.numbers = itertools.count(self.number * _ROWS_OF_A_MEMBER)
        self._texts: Counter[int] = Counter()

    def occurrence(self, text: str) -> int:
        """Return how often a text was asked about before, for a backend that tells them apart."""
        if not self.backend.by_occurrence:
            return 0
        self._texts[hash(text)] += 1
        return self._texts[hash(text)] - 1


@dataclass(frozen=True)
class Limits:
    """What a user allows a job.

    Attributes:
        max_cost: USD, or None.
        failure_limit: how many failing rows end the job, or None.
        total: rows of the job, where known.
    """

    max_cost: float | None = None
    failure_limit: FailureLimit | None = None
    total: int | None = None


class RequestSession(Session):
    """What the LLMs of one labelling job share; use as a context manager.

    The journal and the event loop, which runs in a thread of its own, start with the first LLM:
    a job without one leaves no file.

    Args:
        run: the job's id; answers it pays for are its own when it is resumed.
        cache: the file of answers; made where it is not there.
        limits: budget and failures, of all LLMs together.
        reporter: shows progress and messages.
        stop_requested: whether the user asked to stop; checked several times a second.
        batch_folder: where files for batch services are written; None asks live.

    Attributes:
        tally: what all calls came to so far.
        watch: told of every call; None where nobody listens.
        opening_cost: picodollars spent on finding out what servers can do; None if unknown.
    """

    def __init__(
        self,
        run: str,
        cache: Path,
        limits: Limits | None = None,
        reporter: RequestReporter | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
        batch_folder: Path | None = None,
    ) -> None:
        self.run, self.cache, self.limits = run, cache, limits or Limits()
        self.reporter = reporter or RequestReporter(None)
        self.stop_requested = stop_requested
        self.batch_folder = batch_folder
        self.tally = Tally()
        self.watch: Callable[[LLMCall], None] | None = None
        self.opening_cost: int | None = 0
        self._collectors: Callable[[LLMMember], Collector] | None = None
        self._members: dict[int, LLMMember] = {}
        self._checked: set[int] = set()
        self._opening = threading.Lock()
        self._exit = ExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._journal: AnswerJournal | None = None
        self._ledger: Ledger | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    @property
    def members(self) -> tuple[LLMMember, ...]:
        """The LLMs asked so far."""
        return tuple(self._members.values())

    @property
    def collecting(self) -> bool:
        """Whether requests are collected and not asked."""
        return self._collectors is not None

    def collect(self, collectors: Callable[[LLMMember], Collector] | None) -> None:
        """Give requests to collectors from now on, or, without any, ask again.

        While requests are collected, every row not answered before is `pending`.
        """
        self._collectors = collectors
        for member in self._members.values():
            member.caller.collector = None if collectors is None else collectors(member)
            member.begin()

    def fill_by_batches(self, go_through: Callable[[], None], models: int = 1) -> None:
        """Let the providers' batch services answer what a job asks, before it asks live.

        Where an LLM's questions depend on another's answers, the job is gone through again until
        it asks nothing new.

        Args:
            go_through: puts the job's rows through its classifier.
            models: how many LLMs the classifier may ask.

        Raises:
            RequestsInterrupted: the user asked to stop; the batches go on at the provider.
            InputError: the ceiling is lower than what the batches may cost.
            SentikitError: a batch failed, or the provider cannot be reached.
        """
        rounds: list[BatchRound] = []

        def collector(member: LLMMember) -> BatchRound:
            assert self.batch_folder is not None
            suffix = f".{member.number}" if member.number else ""
            batches = BatchRound(
                needed_batches(member.backend),
                member.caller,
                self.batch_folder.with_name(self.batch_folder.name + suffix),
                member.labels,
                self.reporter,
                self.stop_requested,
                self.run + suffix,
            )
            rounds.append(batches)
            return batches

        asked = 1
        while asked:
            rounds.clear()
            self.collect(collector)
            try:
                go_through()
                asked = self.call(_submit_all(rounds))
            finally:
                for batches in rounds:
                    batches.close()
            if models == 1:
                break
        self.collect(None)

    def check(self, backend: LLMBackend, options: RequestOptions) -> None:
        """Refuse what cannot work before a job begins, and warn of what ends or has no price.

        Raises:
            InputError: no key, a wrong one, no such server or model; a ceiling too low for one
                call or for a model without a price.
            SentikitError: the server fails.
        """
        if id(backend) in self._checked:
            return
        facts = model_facts(backend.model, provider=backend.provider)
        warning = facts.lifecycle_warning(date.today())
        if warning:
            self.reporter.say(warning)
        if backend.billed and prices_for(facts, options.prices, backend.billed) is None:
            self.reporter.say(
                f"The price of {backend.model} is not known, so neither is the cost."
                f"{model_hint(backend.model)} Give it, in USD per million tokens, as "
                "llm.prices.prompt and llm.prices.completion."
            )
        if self.batch_folder is not None:
            needed_batches(backend)
        self.call(self._check(backend, options))
        self._checked.add(id(backend))

    def ask(
        self, member: LLMMember, questions: Iterable[Question[Row]]
    ) -> Generator[AnsweredQuestion[Row], None, None]:
        """Yield what becomes of each question to a member, in order.

        Questions are made in another thread, some hundreds ahead; some thousands of answers wait
        to be taken at most.

        Raises:
            RequestsInterrupted: the user asked to stop.
            InputError: a ceiling too low for one call.
            SentikitError: no call can succeed, an outage, too many failing rows, no money left.
        """
        answers: _Answers[Row] = _Answers()
        work = self._submit(self._answer(member, questions, answers))
        try:
            yield from answers
        except GeneratorExit:
            answers.stop()
            work.result()
            raise
        except BaseException:
            work.cancel()
            raise

    def member(
        self,
        backend: LLMBackend,
        options: RequestOptions,
        read_label: LabelReader,
        labels: tuple[str, ...],
    ) -> LLMMember:
        """Return the member of a backend, opened when it is asked for first.

        Raises:
            InputError: a ceiling too low for one call or for a model without a price.
            SentikitError: it cannot be opened.
        """
        with self._opening:
            found = self._members.get(id(backend))
            if found is None:
                found = self.call(self._open(backend, options, read_label, labels))
                self._members[id(backend)] = found
            return found

    def recall(self, key: str) -> Any:
        """Return what this job remembered under `key` (JSON), or None."""
        return self._with_journal(lambda journal: journal.recall(f"{self.run} {key}"))

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON value for a resumed job."""
        self._with_journal(lambda journal: journal.remember(f"{self.run} {key}", value))

    def forget(self) -> None:
        """Drop what this job remembered."""
        if self._journal is not None:
            self._with_journal(lambda journal: journal.forget(f"{self.run} "))

    def _with_journal(self, work: Callable[[AnswerJournal], Result]) -> Result:
        async def in_loop() -> Result:
            return work(self._open_journal())

        return self.call(in_loop())

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the session's loop and wait for its result."""
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def spent(self) -> int | None:
        """Picodollars this job paid, answers that were lost at their worst; None where none asks.

        A call whose cost is unknown makes it None.
        """
        if self._journal is None or self.tally.paid.known is None:
            return None
        return self._with_journal(lambda journal: journal.spent(self.run))

    def close(self) -> None:
        """Close backends, journal and event loop."""
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        asyncio.run_coroutine_threadsafe(self._close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)

    def _submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(self._loop,), daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _answer(
        self, member: LLMMember, questions: Iterable[Question[Row]], answers: _Answers[Row]
    ) -> None:
        loop = RequestLoop(
            caller=member.caller,
            read_label=member.read_label,
            deliver=answers.put,
            tally=self.tally,
            total=self.limits.total,
            repair=member.options.repair,
            failure_limit=self.limits.failure_limit,
            stop_requested=self.stop_requested,
            tick=self._tick,
            numbers=member.numbers,
        )
        answers.feed(loop)
        # Opening may take minutes, and a batch a day: silence begins now.
        member.caller.patience.answered()
        error: BaseException | None = None
        try:
            await loop.run(questions)
            if loop.cut is not None:
                self.reporter.say(cut_answers(self.tally.cut, loop.cut))
        except BudgetSpentError as spent:
            error = _explain(spent, self.tally)
        except BaseException as raised:
            error = raised
        finally:
            self._tick()
            answers.finish(error)

    def _tick(self) -> None:
        in_flight = sum(member.caller.pacer.in_flight for member in self.members)
        self.reporter.update(self.tally, in_flight)

    async def _open(
        self,
        backend: LLMBackend,
        options: RequestOptions,
        read_label: LabelReader,
        labels: tuple[str, ...],
    ) -> LLMMember:
        caller = self._caller(backend, options)
        member = LLMMember(backend, options, caller, read_label, labels, len(self._members))
        if self.watch is not None:
            caller.watch = _with_labels(self.watch, read_label)
        try:
            if self._collectors is None or self.batch_folder is not None:
                await self._get_ready(backend.open, caller, options)
            if self._collectors is not None:
                caller.collector = self._collectors(member)
                await caller.collector.begin()
        except BaseException:
            await backend.close()
            raise
        return member

    async def _check(self, backend: LLMBackend, options: RequestOptions) -> None:
        try:
            await self._get_ready(backend.check, self._caller(backend, options), options)
        except FatalError as error:
            raise InputError(error.message) from error

    async def _get_ready(
        self,
        get_ready: Callable[[BackendSession], Awaitable[None]],
        caller: Caller,
        options: RequestOptions,
    ) -> None:
        """Call `check` or `open`, again after a while where the server fails.

        Raises:
            RequestsInterrupted: the user asked to stop.
            SentikitError: the server fails again and again, or asks for too long a wait.
        """
        opening = _Opening(caller, options, self.reporter)
        source = random.Random()  # noqa: S311 - jitter
        patience = Patience(options.patience, options.longest_wait)
        failures = 0
        try:
            while True:
                try:
                    await self._unless_stopped(opening.lend_to(get_ready))
                    return
                except RetryableError as error:
                    failures += 1
                    if failures == _OPENING_TRIES:
                        raise SentikitError(error.message) from error
                    patience.heed(error)
                    pause = (error.retry_after or 0) + backoff(failures, source)
                    await self._unless_stopped(asyncio.sleep(pause))
        except BudgetSpentError as error:
            raise _explain(error, self.tally) from error
        finally:
            self.opening_cost = caller.journal.opening_cost(self.run)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work before the first row, until the user asks to stop.

        Raises:
            RequestsInterrupted: the user did.
        """
        task = asyncio.create_task(work)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_TICK)
                if self.stop_requested() and not task.done():
                    raise RequestsInterrupted
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _caller(self, backend: LLMBackend, options: RequestOptions) -> Caller:
        journal = self._open_journal()
        assert self._ledger is not None
        facts = model_facts(backend.model, provider=backend.provider)
        prices, tier = prices_for(facts, options.prices, backend.billed), backend.service_tier
        if self.limits.max_cost is not None and prices is None:
            raise unknown_price(backend.model)
        if self.limits.max_cost is not None and prices and prices.worst(1, 1, tier) is None:
            raise InputError(
                f"The price of {backend.model} in the service tier {tier!r} is not known, so "
                "--max-cost cannot be kept. Leave llm.service_tier or --max-cost out, or give "
                f"llm.prices.tiers.{tier}."
            )
        own, counter = options.prices is not None, TokenCounter(facts.tokenizer)
        budget = Budget(prices, counter, self._ledger, self.tally, any_tier=own)
        batched = self.batch_folder is not None
        return Caller(backend, journal, self.run, budget, options, batched=batched)

    def _open_journal(self) -> AnswerJournal:
        """Open the journal once; while requests are only counted, none is made."""
        if self._journal is None:
            path = self.cache
            if self._collectors is not None and self.batch_folder is None and not path.exists():
                folder = self._exit.enter_context(tempfile.TemporaryDirectory())
                path = Path(folder) / CACHE
            self._journal = self._exit.enter_context(AnswerJournal(path))
            ceiling = self.limits.max_cost
            self._ledger = Ledger(
                None if ceiling is None else picodollars(ceiling), self._journal.spent(self.run)
            )
        return self._journal

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            for member in self.members:
                await member.backend.close()
        finally:
            self._members.clear()
            self._exit.close()


class _Answers(Generic[Row]):
    """Answers on their way from the event loop to the thread that takes them."""

    def __init__(self) -> None:
        self._ready: deque[AnsweredQuestion[Row]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._source: tuple[asyncio.AbstractEventLoop, RequestLoop[Row]] | None = None

    def feed(self, loop: RequestLoop[Row]) -> None:
        """Name the loop that fills this; called in its event loop."""
        self._source = (asyncio.get_running_loop(), loop)

    def put(self, answered: AnsweredQuestion[Row]) -> None:
        """Hand over an answer."""
        with self._changed:
            self._ready.append(answered)
            self._changed.notify()

    def finish(self, error: BaseException | None) -> None:
        """Hand over the end."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def stop(self) -> None:
        """Let the loop end: calls under way may finish."""
        if self._source is not None:
            loop, source = self._source
            loop.call_soon_threadsafe(source.stop)

    def __iter__(self) -> Iterator[AnsweredQuestion[Row]]:
        while True:
            with self._changed:
                while not self._ready and not self._ended:
                    self._changed.wait()
                ready = [
                    self._ready.popleft() for _ in range(min(_TAKEN_AT_ONCE, len(self._ready)))
                ]
            if not ready:
                break
            yield from ready
            if self._source is not None and not self._ended:
                loop, source = self._source
                loop.call_soon_threadsafe(source.take, len(ready))
        if self._error is not None:
            raise self._error


class _Opening:
    """What a backend may use while it opens: its calls are budgeted and booked like all others."""

    def __init__(self, caller: Caller, options: RequestOptions, reporter: RequestReporter) -> None:
        self._caller = caller
        self.probabilities = bool(getattr(options, "probabilities", True))
        self._reserved = Reservation()
        self.say = reporter.say
        self.recall = caller.journal.recall
        self.remember = caller.journal.remember

    async def lend_to(self, get_ready: Callable[[BackendSession], Awaitable[None]]) -> None:
        """Call `check` or `open`, and let go of what it set aside and did not settle."""
        try:
            await get_ready(self)
        except BaseException as error:
            self._caller.unsettle(opening_key(self._caller.run), self._reserved, error)
            self._reserved = Reservation()
            raise
        self._lose()

    async def reserve(self, most: Usage) -> None:
        self._lose()
        caller = self._caller
        if caller.ledger.ceiling is None:
            return
        # A ceiling is refused for a model, or in a tier, without a price.
        assert caller.budget.prices is not None
        worst = caller.budget.prices.worst(
            most.prompt, most.completion, caller.backend.service_tier
        )
        assert worst is not None
        self._reserved = await caller.ledger.reserve(worst)
        caller.journal.reserve(opening_key(caller.run), caller.run, self._reserved.amount)

    def settle(self, used: Usage | None) -> None:
        caller = self._caller
        cost = None
        if caller.budget.prices is not None:
            cost = caller.budget.prices.cost(used, caller.backend.service_tier)
        if cost is None and caller.ledger.ceiling is not None:
            cost = self._reserved.amount
        caller.ledger.release(self._reserved)
        caller.ledger.spent += cost or 0
        caller.journal.add_opening(caller.run, cost, self._reserved.amount)
        self._reserved = Reservation()

    def _lose(self) -> None:
        """Count a call that was never settled at its worst: it may have been billed."""
        self._caller.ledger.lose(self._reserved)
        self._reserved = Reservation()


def spent_usd(run: str, cache: Path) -> float:
    """Return the USD that a job's calls were billed so far; calls in flight count at their worst.

    Args:
        run: the job's id.
        cache: the file of answers.
    """
    if not cache.exists():
        return 0.0
    with AnswerJournal(cache) as journal:
        return usd(journal.spent(run))


def needed_batches(backend: LLMBackend) -> BatchBackend:
    """Return the backend as one with a batch service.

    Raises:
        InputError: it has none.
    """
    if not isinstance(backend, BatchBackend):
        raise InputError("This LLM backend has no batch service. Leave --batch out.")
    return backend


def _explain(error: BudgetSpentError, tally: Tally) -> SentikitError:
    """Say what to do about a ceiling that was reached, or never left room."""
    explained: SentikitError
    if not tally.calls:
        advice = "Nothing was asked. Raise it, or lower llm.max_tokens."
        explained = InputError(f"{error.message} {advice}")
    else:
        explained = SentikitError(
            f"{error.message} Stopped after {tally.rows:,} rows; all answers are kept. Resume with "
            "--resume and a higher --max-cost."
        )
    explained.__cause__ = error
    return explained


def _with_labels(
    watch: Callable[[LLMCall], None], read_label: LabelReader
) -> Callable[[LLMCall], None]:
    """Return what passes a call on with the label that its answer holds."""

    def tell(call: LLMCall) -> None:
        if call.answer is not None:
            call = replace(call, label=read_label(call.answer.text, call.request.labels))
        watch(call)

    return tell


async def _submit_all(rounds: Sequence[BatchRound]) -> int:
    """Submit what was collected, all of it or nothing, and return how many requests that was."""
    for batches in rounds:
        batches.prepare()
    return sum(await asyncio.gather(*(batches.finish() for batches in rounds)))


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
