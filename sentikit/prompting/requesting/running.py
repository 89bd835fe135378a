"""Opens a backend, answers every question, and says what it came to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sentikit.errors import InputError, SentikitError
from sentikit.prompting.backend import Answer, LLMBackend, RetryableError
from sentikit.prompting.counting import TokenCounter
from sentikit.prompting.prices import (
    ModelFacts,
    Prices,
    model_facts,
    picodollars,
    prices_for,
    unknown_price,
)
from sentikit.prompting.requesting.calls import Caller, CallReport
from sentikit.prompting.requesting.failures import FailureLimit
from sentikit.prompting.requesting.journal import OPENING_ROW, AnswerJournal, Record
from sentikit.prompting.requesting.ledger import BudgetSpentError, Ledger
from sentikit.prompting.requesting.loop import RequestLoop
from sentikit.prompting.requesting.pacing import MOST, START, Pacer
from sentikit.prompting.requesting.questions import AnsweredQuestion, LabelReader, Question, Row
from sentikit.prompting.requesting.reporting import RequestReporter
from sentikit.prompting.requesting.retrying import Patience, backoff
from sentikit.prompting.requesting.settings import RequestOptions
from sentikit.prompting.requesting.tally import Tally

#: Default name of the file that keeps answers, beside the run's folder.
CACHE = "answers.sqlite"
_OPENING_TRIES = 4


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
        watchers: told of every try of a call.
    """

    run: str
    total: int
    cache: Path
    options: RequestOptions = field(default_factory=RequestOptions)
    max_cost: float | None = None
    failure_limit: FailureLimit | None = None
    stop_requested: Callable[[], bool] = lambda: False
    watchers: Sequence[Callable[[CallReport], None]] = ()


@dataclass(frozen=True)
class RequestOutcome:
    """What the questions came to.

    Attributes:
        tally: counts and costs.
        opening_cost: picodollars spent on finding out what the server can do; None if unknown.
        facts: of the model.
    """

    tally: Tally
    opening_cost: int | None
    facts: ModelFacts


class _Session:
    """What a backend may use while it is open."""

    def __init__(self, journal: AnswerJournal, reporter: RequestReporter) -> None:
        self._journal = journal
        self.say = reporter.say

    def recall(self, key: str) -> Any:
        return self._journal.recall(key)

    def remember(self, key: str, value: Any) -> None:
        self._journal.remember(key, value)


def answer_questions(
    backend: LLMBackend,
    questions: Iterable[Question[Row]],
    read_label: LabelReader,
    deliver: Callable[[AnsweredQuestion[Row]], None],
    job: RequestJob,
    reporter: RequestReporter,
) -> RequestOutcome:
    """Ask a backend every question and deliver the answers in order.

    Questions are pulled as they are needed and answers are let go once delivered, so that memory
    does not grow with their number.

    Raises:
        RequestsInterrupted: the user asked to stop.
        InputError: a ceiling too low for one call or for a model without a price.
        SentikitError: no call can succeed, an outage, too many failing rows, no money left.
    """
    return asyncio.run(_answer(backend, questions, read_label, deliver, job, reporter))


async def _answer(
    backend: LLMBackend,
    questions: Iterable[Question[Row]],
    read_label: LabelReader,
    deliver: Callable[[AnsweredQuestion[Row]], None],
    job: RequestJob,
    reporter: RequestReporter,
) -> RequestOutcome:
    facts = model_facts(backend.model)
    prices = prices_for(facts, job.options.prices, backend.billed)
    if job.max_cost is not None and prices is None:
        raise unknown_price(backend.model)
    tally = Tally()
    with AnswerJournal(job.cache) as journal:
        caller = _caller(backend, journal, job, prices, facts, tally)
        try:
            await _open(caller, reporter)
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
            await loop.run(questions)
        except BudgetSpentError as error:
            raise _explain(error, tally) from error
        finally:
            await backend.close()
        return RequestOutcome(tally, journal.opening_cost(job.run), facts)


def _caller(
    backend: LLMBackend,
    journal: AnswerJournal,
    job: RequestJob,
    prices: Prices | None,
    facts: ModelFacts,
    tally: Tally,
) -> Caller:
    options = job.options
    ceiling = None if job.max_cost is None else picodollars(job.max_cost)
    most = backend.most_in_flight or MOST
    fixed = options.in_flight if isinstance(options.in_flight, int) else None
    return Caller(
        backend=backend,
        journal=journal,
        run=job.run,
        prices=prices,
        counter=TokenCounter(facts.tokenizer),
        ledger=Ledger(ceiling, journal.spent(job.run)),
        pacer=Pacer(fixed or min(START, most), min(fixed or most, most)),
        patience=Patience(options.patience, options.longest_wait),
        timeout=options.timeout,
        tries=options.tries,
        tally=tally,
        watchers=job.watchers,
    )


async def _open(caller: Caller, reporter: RequestReporter) -> None:
    """Open the backend within the budget, and book what that cost."""
    backend, journal = caller.backend, caller.journal
    most = backend.opening_usage
    worst = 0
    if caller.prices is not None and (most.prompt or most.completion):
        worst = caller.prices.worst(most.prompt, most.completion, backend.service_tier) or 0
    reserved = await caller.ledger.reserve(worst)
    usage = await _opened(backend, _Session(journal, reporter))
    cost = None if caller.prices is None else caller.prices.cost(usage, backend.service_tier)
    caller.ledger.release(reserved)
    caller.ledger.spent += cost or 0
    if usage.prompt or usage.completion:
        key = f"opening:{caller.run}".encode()
        journal.keep(key, Record(caller.run, OPENING_ROW, cost, Answer("", usage)))


async def _opened(backend: LLMBackend, session: _Session) -> Any:
    import random

    for failures in range(1, _OPENING_TRIES + 1):
        try:
            return await backend.open(session)
        except RetryableError as error:
            if failures == _OPENING_TRIES:
                raise SentikitError(error.message) from error
            pause = backoff(failures, random.Random())  # noqa: S311 - jitter
            await asyncio.sleep((error.retry_after or 0) + pause)
    raise AssertionError


def _explain(error: BudgetSpentError, tally: Tally) -> SentikitError:
    """Say what to do about a ceiling that was reached, or never left room."""
    if not tally.calls:
        return InputError(f"{error.message} Nothing was asked. Raise it, or lower llm.max_tokens.")
    return SentikitError(
        f"{error.message} Stopped after {tally.rows:,} rows; all answers are kept. Go on with "
        "--resume and a higher --max-cost."
    )


def with_fixed_cache(job: RequestJob, folder: Path) -> RequestJob:
    """Return the job with its file of answers beside `folder` unless the recipe names one."""
    return replace(job, cache=job.options.cache or folder.parent / CACHE)
