"""A run's requests from beginning to end: opening, batches, then the loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from sentikit.classifiers.prediction import Usage
from sentikit.errors import InputError, SentikitError
from sentikit.llm.backend import (
    BackendSession,
    BatchBackend,
    FatalError,
    LLMBackend,
    RetryableError,
)
from sentikit.llm.counting import TokenCounter
from sentikit.llm.prices import (
    model_facts,
    model_hint,
    picodollars,
    prices_for,
    unknown_price,
)
from sentikit.llm.requests.budget import Budget, BudgetSpentError, Ledger, Reservation, Tally
from sentikit.llm.requests.calls import Caller
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
from sentikit.llm.requests.pacing import MOST, START, Pace, Pacer, Patience, backoff
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.requests.settings import FailureLimit, RequestOptions
from sentikit.tracking import LLMCall

#: Default name of the file that keeps answers, beside the run's folder.
CACHE = "answers.sqlite"
_OPENING_TRIES = 4
_TICK = 0.2


@dataclass(frozen=True)
class RequestJob:
    """What one run asks of the loop.

    Attributes:
        run: the run's id: answers it pays for are its own when it is resumed.
        total: how many questions there are.
        cache: the file of answers.
        options: of the ``llm`` section.
        max_cost: USD, or None.
        failure_limit: how many failing rows end the run, or None.
        stop_requested: asked several times a second.
        watch: told of every call; None where nobody listens.
        batch_folder: where files for the provider's batch service are written; None asks live.
    """

    run: str
    total: int
    cache: Path
    options: RequestOptions = field(default_factory=RequestOptions)
    max_cost: float | None = None
    failure_limit: FailureLimit | None = None
    stop_requested: Callable[[], bool] = lambda: False
    watch: Callable[[LLMCall], None] | None = None
    batch_folder: Path | None = None


@dataclass(frozen=True)
class RequestOutcome:
    """What the questions came to.

    Attributes:
        tally: counts and costs.
        opening_cost: picodollars spent on finding out what the server can do; None if unknown.
    """

    tally: Tally
    opening_cost: int | None


class _Session:
    """What a backend may use while it opens: its calls are budgeted and booked like all others."""

    def __init__(self, caller: Caller, job: RequestJob, reporter: RequestReporter) -> None:
        self._caller = caller
        self.probabilities = bool(getattr(job.options, "probabilities", True))
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
        assert caller.prices is not None
        worst = caller.prices.worst(most.prompt, most.completion, caller.backend.service_tier)
        assert worst is not None
        self._reserved = await caller.ledger.reserve(worst)
        caller.journal.reserve(opening_key(caller.run), caller.run, self._reserved.amount)

    def settle(self, used: Usage | None) -> None:
        caller = self._caller
        cost = None
        if caller.prices is not None:
            cost = caller.prices.cost(used, caller.backend.service_tier)
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


def answer_questions(
    backend: LLMBackend,
    questions: Iterable[Question[Row]],
    read_label: LabelReader,
    deliver: Callable[[AnsweredQuestion[Row]], None],
    job: RequestJob,
    reporter: RequestReporter,
) -> RequestOutcome:
    """Ask a backend every question and deliver the answers in order.

    With a batch folder the questions are gone through several times. They are pulled
    as they are needed and answers are let go once delivered, so that memory does not grow.

    Raises:
        RequestsInterrupted: the user asked to stop.
        InputError: a ceiling too low for one call or for a model without a price.
        SentikitError: no call can succeed, an outage, too many failing rows, no money left.
    """
    return asyncio.run(_answer(backend, questions, read_label, deliver, job, reporter))


def check_backend(backend: LLMBackend, job: RequestJob, reporter: RequestReporter) -> None:
    """Refuse what cannot work before a run begins, and warn of what ends or has no price.

    Raises:
        InputError: no key, a wrong one, no such server or model; a ceiling too low for one call or
            for a model without a price.
        SentikitError: the server fails.
    """
    facts = model_facts(backend.model)
    warning = facts.lifecycle_warning(date.today())
    if warning:
        reporter.say(warning)
    if backend.billed and prices_for(facts, job.options.prices, backend.billed) is None:
        reporter.say(
            f"The price of {backend.model} is not known, so neither is the cost."
            f"{model_hint(backend.model)} Give it, in USD per million tokens, as "
            "llm.prices.prompt and llm.prices.completion."
        )
    asyncio.run(_check(backend, job, reporter))


async def _check(backend: LLMBackend, job: RequestJob, reporter: RequestReporter) -> None:
    with AnswerJournal(job.cache) as journal:
        caller = _caller(backend, journal, job, Tally())
        try:
            await _patiently(backend.check, _Session(caller, job, reporter), job)
        except BudgetSpentError as error:
            raise _explain(error, caller.tally) from error
        except FatalError as error:
            raise InputError(error.message) from error


async def _answer(
    backend: LLMBackend,
    questions: Iterable[Question[Row]],
    read_label: LabelReader,
    deliver: Callable[[AnsweredQuestion[Row]], None],
    job: RequestJob,
    reporter: RequestReporter,
) -> RequestOutcome:
    tally = Tally()
    with AnswerJournal(job.cache) as journal:
        caller = _caller(backend, journal, job, tally)
        try:
            await _patiently(backend.open, _Session(caller, job, reporter), job)
            if job.batch_folder is not None:
                await _answer_in_batches(caller, questions, job, job.batch_folder, reporter)
            loop = RequestLoop(
                caller=caller,
                read_label=read_label,
                deliver=deliver,
                tally=tally,
                total=job.total,
                repair=job.options.repair,
                failure_limit=job.failure_limit,
                stop_requested=job.stop_requested,
                tick=lambda: reporter.update(tally, caller.pacer.in_flight),
            )
            # Opening may take minutes, and a batch a day: silence begins now.
            caller.patience.answered()
            await loop.run(questions)
            if loop.cut is not None:
                reporter.say(cut_answers(tally.cut, loop.cut))
        except BudgetSpentError as error:
            raise _explain(error, tally) from error
        finally:
            reporter.update(tally, 0)
            await backend.close()
        return RequestOutcome(tally, journal.opening_cost(job.run))


async def _answer_in_batches(
    caller: Caller,
    questions: Iterable[Question[Row]],
    job: RequestJob,
    folder: Path,
    reporter: RequestReporter,
) -> None:
    """Fill the journal by the provider's batch service; the loop asks for what is left."""
    from sentikit.llm.requests.batches import BatchRound

    backend = needed_batches(caller.backend)
    first = next(iter(questions), None)
    if first is not None:
        labels = first.request.labels
        batches = BatchRound(backend, caller, folder, labels, reporter, job.stop_requested)
        await batches.run(questions)


def needed_batches(backend: LLMBackend) -> BatchBackend:
    """Return the backend as one with a batch service.

    Raises:
        InputError: it has none.
    """
    if not isinstance(backend, BatchBackend):
        raise InputError("This LLM backend has no batch service. Leave --batch out.")
    return backend


def _caller(backend: LLMBackend, journal: AnswerJournal, job: RequestJob, tally: Tally) -> Caller:
    options, facts = job.options, model_facts(backend.model)
    prices = prices_for(facts, options.prices, backend.billed)
    if job.max_cost is not None and prices is None:
        raise unknown_price(backend.model)
    if job.max_cost is not None and prices and prices.worst(1, 1, backend.service_tier) is None:
        raise InputError(
            f"The price of {backend.model} in the service tier {backend.service_tier!r} is not "
            "known, so --max-cost cannot be kept. Leave llm.service_tier or --max-cost out, or "
            f"give llm.prices.tiers.{backend.service_tier}."
        )
    ceiling = None if job.max_cost is None else picodollars(job.max_cost)
    fixed = options.in_flight if isinstance(options.in_flight, int) else backend.most_in_flight
    return Caller(
        backend=backend,
        journal=journal,
        run=job.run,
        budget=Budget(
            prices=prices,
            counter=TokenCounter(facts.tokenizer),
            ledger=Ledger(ceiling, journal.spent(job.run)),
            tally=tally,
            any_tier=options.prices is not None,
        ),
        pace=Pace(
            pacer=Pacer(fixed or START, fixed or MOST),
            patience=Patience(options.patience, options.longest_wait),
            timeout=None if backend.in_process else options.timeout,
            tries=options.tries,
        ),
        watch=job.watch,
        batched=job.batch_folder is not None,
    )


async def _patiently(
    get_ready: Callable[[BackendSession], Awaitable[None]], session: _Session, job: RequestJob
) -> None:
    """Call `check` or `open`, again after a while where the server fails.

    Raises:
        RequestsInterrupted: the user asked to stop.
        SentikitError: the server fails again and again, or asks for too long a wait.
    """
    source = random.Random()  # noqa: S311 - jitter
    patience = Patience(job.options.patience, job.options.longest_wait)
    for failures in range(1, _OPENING_TRIES + 1):
        try:
            await _unless_stopped(session.lend_to(get_ready), job)
            return
        except RetryableError as error:
            if failures == _OPENING_TRIES:
                raise SentikitError(error.message) from error
            patience.heed(error)
            pause = (error.retry_after or 0) + backoff(failures, source)
            await _unless_stopped(asyncio.sleep(pause), job)


async def _unless_stopped(work: Coroutine[Any, Any, None], job: RequestJob) -> None:
    """Do some work before the first row, until the user asks to stop.

    Raises:
        RequestsInterrupted: the user did.
    """
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_TICK)
            if job.stop_requested() and not task.done():
                raise RequestsInterrupted
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


def _explain(error: BudgetSpentError, tally: Tally) -> SentikitError:
    """Say what to do about a ceiling that was reached, or never left room."""
    if not tally.calls:
        return InputError(f"{error.message} Nothing was asked. Raise it, or lower llm.max_tokens.")
    return SentikitError(
        f"{error.message} Stopped after {tally.rows:,} rows; all answers are kept. Go on with "
        "--resume and a higher --max-cost."
    )
