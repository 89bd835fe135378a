"""The request loop: pulls questions, keeps calls running, hands answers back in order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from sentikit.classifiers.prediction import Usage
from sentikit.errors import SentikitError
from sentikit.llm.backend import Answer, ChatRequest
from sentikit.llm.messages import Message
from sentikit.llm.prices import usd
from sentikit.llm.requests.budget import Money, Tally
from sentikit.llm.requests.calls import Answered, Caller, FailedCallError, StoppedError
from sentikit.llm.requests.settings import FailureLimit
from sentikit.stopping import Interrupted

Row = TypeVar("Row")

#: Reads the label out of an answer's text: one of the labels, or None where it is invalid.
LabelReader = Callable[[str, Sequence[str]], str | None]


@dataclass(frozen=True)
class Question(Generic[Row]):
    """One row to ask about.

    Attributes:
        row: whatever the caller wants back with the answer.
        request: what to ask.
    """

    row: Row
    request: ChatRequest


@dataclass(frozen=True)
class AnsweredQuestion(Generic[Row]):
    """What became of one row.

    Attributes:
        question: as it went in.
        label: one of the request's labels; None where no answer was valid or the row failed.
        answers: the first try and, where that was invalid, the repair; empty where the row failed.
        cost: USD of these answers, whoever paid; None where the model's price is unknown.
        paid: USD of those that were asked for this row and not found in the cache; None likewise.
        saved: whether all answers were found in the cache: of an earlier run or an earlier row.
        error: why the row failed, or None.
    """

    question: Question[Row]
    label: str | None
    answers: tuple[Answer, ...]
    cost: float | None
    paid: float | None = None
    saved: bool = False
    error: str | None = None

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Label to probability, of the answer that gave the label."""
        if self.label is None or not self.answers:
            return None
        return self.answers[-1].probabilities

    @property
    def is_cut(self) -> bool:
        """Whether the limit on tokens ended the answer before it was a label."""
        ended = self.answers[-1].finish_reason if self.answers else ""
        return self.label is None and ended == "length"

    @property
    def usage(self) -> Usage | None:
        """Tokens of all answers; None where there is no answer or one of them has no usage."""
        total = Usage()
        for answer in self.answers:
            if answer.usage is None:
                return None
            total += answer.usage
        return total if self.answers else None

    @property
    def unmetered(self) -> int:
        """How many answers came without usage."""
        return sum(answer.usage is None for answer in self.answers)


#: Finish reasons after which asking again gives the same.
_FINAL = frozenset({"content_filter", "length"})
#: Rows after which a run stops where each of them was cut.
_FIRST_ROWS = 20


def worth_repairing(answer: Answer) -> bool:
    """Return whether another answer may be better."""
    return answer.finish_reason not in _FINAL


def cut_answers(number: int, request: ChatRequest) -> str:
    """Say what to do about answers that were cut."""
    were = "answer was" if number == 1 else "answers were"
    return (
        f"{number:,} {were} cut at llm.max_tokens={request.max_tokens}: raise it, or lower "
        "llm.reasoning_effort."
    )


def repair_request(request: ChatRequest, answer: Answer) -> ChatRequest:
    """Return the request that shows the model its answer and asks for one label."""
    said = answer.text.strip() or "…"
    asked = Message("user", f"Answer with exactly one word: {_choices(request.labels)}.")
    return replace(request, messages=(*request.messages, Message("assistant", said), asked))


def _choices(labels: Sequence[str]) -> str:
    quoted = [f"'{label}'" for label in labels]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)


Item = TypeVar("Item")


class OrderedDelivery(Generic[Item]):
    """Holds what comes early, never more than a window of it.

    Args:
        deliver: called once an index, in order.
        window: how far ahead of the oldest missing item others may be.
    """

    def __init__(self, deliver: Callable[[Item], None], window: int = 4096) -> None:
        self._deliver = deliver
        self._window = window
        self._waiting: dict[int, Item] = {}
        self._next = 0
        self._moved = asyncio.Event()
        self._closed = False

    async def room(self, index: int) -> None:
        """Wait until the item of `index` may be started, or nothing more will be delivered."""
        while index - self._next >= self._window and not self._closed:
            self._moved.clear()
            await self._moved.wait()

    def close(self) -> None:
        """Let go of whoever waits for room."""
        self._closed = True
        self._moved.set()

    def put(self, index: int, item: Item) -> None:
        """Hand in an item; it and those waiting behind it are delivered when it is their turn."""
        self._waiting[index] = item
        while self._next in self._waiting:
            self._deliver(self._waiting.pop(self._next))
            self._next += 1
        self._moved.set()


# Questions are made in another thread, so many at a time: making them may embed texts.
_PULLED_AT_ONCE = 64
_TICK = 0.2


class RequestsInterrupted(Interrupted):
    """The user asked to stop; everything answered is in the journal."""


class RequestLoop(Generic[Row]):
    """Answers questions with one `Caller`.

    Args:
        caller: makes the calls.
        read_label: reads the label out of an answer.
        deliver: called with every row, in the order of the questions.
        tally: counts what comes back.
        total: how many questions there are, for the failure limit.
        repair: whether an invalid answer gets another try.
        failure_limit: how many failing rows end the run, or None.
        stop_requested: asked several times a second.
        tick: called several times a second, to show progress.

    Attributes:
        cut: the last request whose answer was cut at the limit on tokens, or None.
    """

    def __init__(
        self,
        caller: Caller,
        read_label: LabelReader,
        deliver: Callable[[AnsweredQuestion[Row]], None],
        tally: Tally,
        total: int,
        repair: bool = True,
        failure_limit: FailureLimit | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._caller, self._read, self._tally = caller, read_label, tally
        self._total, self._repair, self._failure_limit = total, repair, failure_limit
        self._stop_requested, self._tick = stop_requested, tick
        self._delivery = OrderedDelivery(deliver)
        self._open: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._ending: BaseException | None = None
        self.cut: ChatRequest | None = None

    async def run(self, questions: Iterable[Question[Row]]) -> None:
        """Answer all questions.

        Raises:
            RequestsInterrupted: the user asked to stop.
            SentikitError: no call can succeed, an outage, too many failing rows, no money left.
        """
        ticker = asyncio.create_task(self._ticks())
        try:
            try:
                await self._dispatch(iter(questions))
            except Exception as error:
                # A question that cannot be made; the calls under way are paid all the same.
                self._end(error)
            self._caller.last_rows = True
            while self._open and self._ending is None:
                await self._someone_done()
            if self._ending is not None:
                await self._wind_up()
                raise self._ending
        except BaseException:
            await self._abandon()
            raise
        finally:
            ticker.cancel()

    async def _dispatch(self, questions: Iterator[Question[Row]]) -> None:
        numbers = itertools.count()
        while self._ending is None:
            pulled = await asyncio.to_thread(list, itertools.islice(questions, _PULLED_AT_ONCE))
            if not pulled:
                return
            for question in pulled:
                index = next(numbers)
                await self._delivery.room(index)
                while len(self._open) >= 2 * self._caller.pacer.limit and self._ending is None:
                    await self._someone_done()
                if self._ending is not None:
                    return
                self._start(index, question)

    def _start(self, index: int, question: Question[Row]) -> None:
        task = asyncio.create_task(self._row(index, question))
        self._open.add(task)
        task.add_done_callback(self._row_done)

    def _row_done(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._freed.set()
        if task.cancelled() or task.exception() is None:
            return
        if not isinstance(task.exception(), StoppedError):
            self._end(task.exception())

    async def _someone_done(self) -> None:
        self._freed.clear()
        await self._freed.wait()

    async def _row(self, index: int, question: Question[Row]) -> None:
        try:
            calls = [await self._caller.call(question.request, index)]
            label = self._label(question, calls[-1])
            if label is None and self._repair and worth_repairing(calls[-1].answer):
                label = await self._repaired(index, question, calls)
            row = _answered(question, label, calls)
        except FailedCallError as error:
            calls = []
            row = AnsweredQuestion(question, None, (), None, error=str(error))
        self._count(row, calls)
        self._delivery.put(index, row)

    async def _repaired(
        self, index: int, question: Question[Row], calls: list[Answered]
    ) -> str | None:
        """Ask once more; where that call fails the row stays invalid."""
        request = repair_request(question.request, calls[-1].answer)
        try:
            calls.append(await self._caller.call(request, index))
        except FailedCallError:
            return None
        label = self._label(question, calls[-1])
        self._tally.repaired += label is not None
        return label

    def _label(self, question: Question[Row], call: Answered) -> str | None:
        return self._read(call.answer.text, question.request.labels)

    def _count(self, row: AnsweredQuestion[Row], calls: list[Answered]) -> None:
        tally = self._tally
        tally.rows += 1
        tally.failed += row.error is not None
        tally.invalid += row.label is None and row.error is None
        if row.is_cut:
            tally.cut += 1
            self.cut = row.question.request
        for call in calls:
            if call.own:
                tally.add_paid(call.answer, call.cost)
            else:
                tally.add_saved(call.cost)
        limit = self._failure_limit
        if row.error and limit is not None and limit.reached(tally.failed, self._total):
            raise SentikitError(
                f"{tally.failed} rows have failed, as many as --fail-on-error {limit} allows; the "
                f"last: {row.error} Continue with --resume: answered rows are kept."
            )
        if tally.cut == tally.rows == _FIRST_ROWS:
            raise SentikitError(
                f"The first {cut_answers(tally.cut, row.question.request)} Nothing more was asked."
            )

    def _end(self, why: BaseException | None) -> None:
        """Start nothing new; calls under way may finish, for they are paid."""
        if self._ending is None and why is not None:
            self._ending = why
            self._caller.stopping = True
            self._freed.set()
            self._delivery.close()

    async def _ticks(self) -> None:
        while True:
            self._tick()
            if self._stop_requested():
                self._end(RequestsInterrupted())
            await asyncio.sleep(_TICK)

    async def _wind_up(self) -> None:
        for task in self._open - self._caller.calling:
            task.cancel()
        while self._open:
            await asyncio.wait(self._open)

    async def _abandon(self) -> None:
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)


def _answered(
    question: Question[Row], label: str | None, calls: list[Answered]
) -> AnsweredQuestion[Row]:
    cost, paid = Money(), Money()
    for call in calls:
        cost.add(call.cost)
        if call.own:
            paid.add(call.cost)
    return AnsweredQuestion(
        question=question,
        label=label,
        answers=tuple(call.answer for call in calls),
        cost=None if cost.known is None else usd(cost.known),
        paid=None if paid.known is None else usd(paid.known),
        saved=not any(call.own for call in calls),
    )
