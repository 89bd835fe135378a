"""The session of a labelling job with LLMs: one journal, one budget, one event loop."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from concurrent import futures
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any, Self, TypeVar

from sentikit.classifiers.classifier import Session
from sentikit.errors import InputError, SentikitError
from sentikit.llm.backend import BackendSession, FatalError, LLMBackend
from sentikit.llm.prices import (
    Pricing,
    TokenCounter,
    model_facts,
    model_hint,
    picodollars,
    prices_for,
    unknown_price,
    usd,
)
from sentikit.llm.requests.batches import BatchRound, needed_batches
from sentikit.llm.requests.budget import Budget, BudgetSpentError, InFlight, Ledger, Tally
from sentikit.llm.requests.calls import Collector, LLMMember, Opening
from sentikit.llm.requests.journal import AnswerJournal
from sentikit.llm.requests.loop import AnsweredQuestion, Question, RequestLoop, Row, cut_answers
from sentikit.llm.requests.pacing import Patience, with_retries
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.settings import Limits, RequestOptions
from sentikit.llm.strategy import LabelReader
from sentikit.tracking import LLMCall

Result = TypeVar("Result")

#: Default name of the file of answers, beside the run's folder.
CACHE = "answers.sqlite"
#: Tries of opening a backend.
_TRIES = 4


class RequestSession(Session):
    """What the LLMs of one labelling job share; use as a context manager.

    The journal and the event loop, which has its own thread, start with the first LLM: a job
    without one writes no file.

    Args:
        run: the job's id; a resumed job recognises the answers it paid for by it.
        cache: the file of answers; created if missing.
        limits: on cost and failures, for all LLMs together.
        reporter: shows progress and messages.
        stop_requested: whether the user asked to stop; checked several times a second.
        batch_folder: the folder of batch files; None for live calls.

    Attributes:
        tally: the totals of all calls so far.
        watch: called with every call, if set.
        opening_cost: picodollars spent on probing the servers; None if unknown.
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
    def limited(self) -> bool:
        return self.limits.max_cost is not None or self.batch_folder is not None

    @property
    def collecting(self) -> bool:
        """Whether requests are collected instead of sent."""
        return self._collectors is not None

    def collect(self, collectors: Callable[[LLMMember], Collector] | None) -> None:
        """Hand requests to collectors from now on; None sends them again.

        While requests are collected, every row without a cached answer is `pending`.
        """
        self._collectors = collectors
        self.tally.begin()
        for member in self._members.values():
            member.collector = None if collectors is None else collectors(member)
            member.begin()

    def fill_by_batches(self, classify_all: Callable[[], object], models: int = 1) -> None:
        """Answer a job's requests through the batch services, before live calls begin.

        `classify_all` classifies the job's rows. With several `models`, whose requests may depend
        on each other's answers, it is called until there are no new requests.
        """
        rounds: list[BatchRound] = []

        def collector(member: LLMMember) -> BatchRound:
            assert self.batch_folder is not None
            suffix = f".{member.number}" if member.number else ""
            batches = BatchRound(
                member,
                self.batch_folder.with_name(self.batch_folder.name + suffix),
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
                classify_all()
                asked = self.call(_submit_all(rounds))
            finally:
                for batches in rounds:
                    batches.close()
            if models == 1:
                break
        self.collect(None)

    def check(self, backend: LLMBackend, options: RequestOptions) -> None:
        """Check a backend before a job begins; warn if its model ends soon or has no price."""
        if id(backend) in self._checked:
            return
        facts = model_facts(backend.model, provider=backend.provider)
        if warning := facts.lifecycle_warning(date.today()):
            self.reporter.say(warning)
        if backend.billed and prices_for(facts, options.prices, backend.billed) is None:
            self.reporter.say(
                f"The cost is unknown, because the price of {backend.model} is."
                f"{model_hint(backend.model)} Set it, in USD per million tokens, with "
                "llm.prices.prompt and llm.prices.completion."
            )
        if self.batch_folder is not None:
            needed_batches(backend)
        self.call(self._check(backend, options))
        self._checked.add(id(backend))

    def ask(
        self, member: LLMMember, questions: Iterable[Question[Row]]
    ) -> Generator[AnsweredQuestion[Row], None, None]:
        """Yield the outcome of each question to a member, in order.

        Another thread makes questions some hundreds ahead; at most some thousands of answers wait
        for the caller.

        Raises:
            Interrupted: the user asked to stop.
            InputError: the budget is too low for one call.
            SentikitError: no call can succeed, an outage, too many failed rows, no budget left.
        """
        loop: RequestLoop[Row] = RequestLoop(member, self.limits, self.stop_requested, self._tick)
        work = self._submit(self._answer(loop, questions))
        try:
            for answered in loop.answered:
                yield from answered
                self._soon(loop.answered.take, len(answered))
        except GeneratorExit:
            self._soon(loop.stop)
            futures.wait([work])
            raise
        except BaseException:
            work.cancel()
            raise
        work.result()

    def member(
        self,
        backend: LLMBackend,
        options: RequestOptions,
        read_label: LabelReader,
        labels: tuple[str, ...],
    ) -> LLMMember:
        """Return the member of a backend; the first call opens it."""
        with self._opening:
            found = self._members.get(id(backend))
            if found is None:
                found = self.call(self._open(backend, options, read_label, labels))
                self._members[id(backend)] = found
            return found

    def recall(self, key: str) -> Any:
        """Return the JSON value that this job stored under `key`, or None."""
        return self._with_journal(lambda journal: journal.recall(f"{self.run} {key}"))

    def remember(self, key: str, value: Any) -> None:
        """Store a JSON value for a resumed job."""
        self._with_journal(lambda journal: journal.remember(f"{self.run} {key}", value))

    def forget(self) -> None:
        """Delete the values that this job stored."""
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
        """Picodollars paid, lost answers at their reservation; None if unknown or nothing was."""
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

    def _submit(self, work: Coroutine[Any, Any, Result]) -> futures.Future[Result]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(self._loop,), daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _soon(self, call: Callable[..., object], *arguments: Any) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(call, *arguments)

    async def _answer(self, loop: RequestLoop[Row], questions: Iterable[Question[Row]]) -> None:
        try:
            await loop.run(questions)
            if loop.cut is not None:
                self.reporter.say(cut_answers(self.tally.cut, loop.cut))
        except BudgetSpentError as spent:
            raise _explain(spent, self.tally) from spent
        finally:
            # The caller waits for the end of the answers even if the journal cannot be written.
            try:
                self._tick()
            finally:
                loop.answered.end()

    def _tick(self) -> None:
        for member in self.members:
            member.budget.in_flight.note()
        in_flight = sum(member.pacer.in_flight for member in self.members)
        self.reporter.update(self.tally, in_flight)

    async def _open(
        self,
        backend: LLMBackend,
        options: RequestOptions,
        read_label: LabelReader,
        labels: tuple[str, ...],
    ) -> LLMMember:
        pricing, budget = self._money(backend, options)
        number, say = len(self._members), self.reporter.say
        member = LLMMember(pricing, budget, options, read_label, labels, number, say)
        member.watch, member.batched = self.watch, self.batch_folder is not None
        try:
            if self._collectors is None or member.batched:
                await self._get_ready(backend.open, pricing, budget, options)
            if self._collectors is not None:
                member.collector = self._collectors(member)
                await member.collector.begin()
        except BaseException:
            await backend.close()
            raise
        return member

    async def _check(self, backend: LLMBackend, options: RequestOptions) -> None:
        try:
            await self._get_ready(backend.check, *self._money(backend, options), options)
        except FatalError as error:
            raise InputError(error.message) from error

    async def _get_ready(
        self,
        get_ready: Callable[[BackendSession], Awaitable[None]],
        pricing: Pricing,
        budget: Budget,
        options: RequestOptions,
    ) -> None:
        """Call `check` or `open`, with retries while the server fails."""
        probabilities = getattr(options, "probabilities", True)
        opening = Opening(pricing, budget, probabilities, self.reporter.say)
        patience = Patience(options.patience, options.longest_wait)
        try:
            await with_retries(
                lambda: opening.run(get_ready), patience, _TRIES, self.stop_requested
            )
        except BudgetSpentError as error:
            raise _explain(error, self.tally) from error
        finally:
            self.opening_cost = budget.journal.opening_cost(self.run)

    def _money(self, backend: LLMBackend, options: RequestOptions) -> tuple[Pricing, Budget]:
        journal = self._open_journal()
        assert self._ledger is not None
        facts = model_facts(backend.model, provider=backend.provider)
        prices, tier = prices_for(facts, options.prices, backend.billed), backend.service_tier
        if self.limits.max_cost is not None and prices is None:
            raise unknown_price(backend.model)
        if self.limits.max_cost is not None and prices and prices.worst(1, 1, tier) is None:
            raise InputError(
                f"--max-cost needs the price of {backend.model} in the service tier {tier!r}, "
                f"which is unknown. Set llm.prices.tiers.{tier}, or leave out llm.service_tier "
                "or --max-cost."
            )
        any_tier = options.prices is not None
        pricing = Pricing(backend, prices, TokenCounter(facts.tokenizer), any_tier)
        in_flight = InFlight(journal, self.run)
        return pricing, Budget(self._ledger, self.tally, journal, self.run, in_flight)

    def _open_journal(self) -> AnswerJournal:
        """Open the journal once; an estimate without one uses a temporary file."""
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


def spent_usd(run: str, cache: Path) -> float:
    """Return a job's cost in USD so far from its id and file of answers.

    Calls in flight count at their worst-case cost.
    """
    if not cache.exists():
        return 0.0
    with AnswerJournal(cache) as journal:
        return usd(journal.spent(run))


def _explain(error: BudgetSpentError, tally: Tally) -> SentikitError:
    """Add what to do about a budget that is used up or too low for one call."""
    if not tally.calls:
        return InputError(f"{error.message} Nothing was sent. Raise it, or lower llm.max_tokens.")
    return SentikitError(
        f"{error.message} Stopped after {tally.rows:,} rows; all answers are kept. Resume with "
        "--resume and a higher --max-cost."
    )


async def _submit_all(rounds: Sequence[BatchRound]) -> int:
    """Submit all collected requests or none, and return their number."""
    for batches in rounds:
        batches.prepare()
    return sum(await asyncio.gather(*(batches.finish() for batches in rounds)))


def _run(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()
