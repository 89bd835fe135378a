"""The request loop: pulls questions, keeps calls running, hands answers back in order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from sentikit.classifiers.prediction import Usage
from sentikit.errors import SentikitError
from sentikit.llm.backend import Answer, ChatRequest
from sentikit.llm.prices import usd
from sentikit.llm.requests.budget import Money, Tally
from sentikit.llm.requests.calls import (
    Answered,
    Caller,
    FailedCallError,
    PendingError,
    StoppedError,
)
from sentikit.llm.settings import FailureLimit
from sentikit.llm.strategy import Message
from sentikit.stopping import Interrupted

Row = TypeVar("Row")

#: Reads the label out of an answer's text: one of the labels, or None where it is invalid.
LabelReader = Callable[[str, Sequence[str]], str | None]


@dataclass(frozen=True)
class Question(Generic[Row]):
    """One row to ask about.

    Attributes:
        row: whatever the caller wants back with the answer.
        request: what to ask; None where nothing is to be asked, as about a text without words.
        error: why nothing can be asked, where that is a failure.
    """

    row: Row
    request: ChatRequest | None
    error: str | None = None


@dataclass(frozen=True)
class AnsweredQuestion(Generic[Row]):
    """What became of one row.

    Attributes:
        question: as it went in.
        label: one of the request's labels; None where no answer was valid or the row failed.
        answers: the first try and, where that was invalid, the repair; empty where the row failed.
        cost: USD of these answers, cached or not; None where the model's price is unknown.
        paid: USD of those that were asked for this row and not found in the cache; None likewise.
        saved: whether all answers were found in the cache: of an earlier run or an earlier row.
        error: why the row failed, or None.
        pending: whether the request was collected, for a batch or an estimate, and not asked.
    """

    question: Question[Row]
    label: str | None
    answers: tuple[Answer, ...]
    cost: float | None
    paid: float | None = None
    saved: bool = False
    error: str | None = None
    pending: bool = False

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Label to probability, of the answer that gave the label; 0 where it never came to one."""
        request = self.question.request
        known = self.answers[-1].probabilities if self.answers else None
        if self.label is None or request is None or known is None:
            return None
        found = {label: known.get(label, 0.0) for label in request.labels}
        # The tokens of free text need not be those of the label that its strategy reads.
        unlike = request.free_text and found[self.label] < max(found.values())
        return None if unlike else found

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


#: Finish reasons after which asking again gives the same.
_FINAL = frozenset({"content_filter", "length"})
#: Rows after which a run stops where each of them was cut.
_FIRST_ROWS = 20


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
    quoted = [f"'{label}'" for label in request.labels]
    choices = " or ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
    asked = Message("user", f"Answer with exactly one word: {choices}.")
    messages = (*request.messages, Message("assistant", said), asked)
    return replace(request, messages=messages, rationale=False, free_text=False)


Item = TypeVar("Item")


class OrderedDelivery(Generic[Item]):
    """Holds what comes early, never more than a window of it."""

    def __init__(self, deliver: Callable[[Item], None], window: int = 4096) -> None:
        self._deliver, self._window = deliver, window
        self._waiting: dict[int, Item] = {}
        self._next = self._taken = 0
        self._moved = asyncio.Event()
        self._closed = False

    async def room(self, index: int) -> None:
        """Wait until the item of `index` may be started, or nothing more will be delivered."""
        while index - self._taken >= self._window and not self._closed:
            self._moved.clear()
            await self._moved.wait()

    def close(self) -> None:
        """Release the tasks that wait for room."""
        self._closed = True
        self._moved.set()

    def put(self, index: int, item: Item) -> None:
        """Hand in an item; it and those waiting behind it are delivered when it is their turn."""
        self._waiting[index] = item
        while self._next in self._waiting:
            self._deliver(self._waiting.pop(self._next))
            self._next += 1

    def take(self, number: int) -> None:
        """Make room: so many more items have left the queue behind the delivery."""
        self._taken += number
        self._moved.set()


#: Questions made ahead of those that are asked.
_MADE_AHEAD = 256
#: Seconds that the making of questions may take to stop.
_LONGEST_STOP = 20.0
_TICK = 0.2


class RequestsInterrupted(Interrupted):
    """The user asked to stop; everything answered is in the journal."""


class QuestionThread(Generic[Row]):
    """Makes questions in a thread of its own, some ahead: making them may run an encoder."""

    def __init__(self, questions: Iterable[Question[Row]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._made: deque[Question[Row]] = deque()
        self._changed = threading.Condition()
        self._arrived = asyncio.Event()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(questions,), daemon=True)
        self._thread.start()

    async def take(self) -> list[Question[Row]]:
        """Return the questions made since the last call, at least one; none at the end.

        Raises:
            BaseException: what the making of a question raised.
        """
        while True:
            self._arrived.clear()
            with self._changed:
                taken, ended = list(self._made), self._ended
                self._made.clear()
                self._changed.notify()
            if taken:
                return taken
            if self._error is not None:
                raise self._error
            if ended:
                return []
            await self._arrived.wait()

    async def stop(self) -> None:
        """End the thread; what waits for its next example is left alone after some seconds."""
        with self._changed:
            self._stopped = True
            self._made.clear()
            self._changed.notify()
        deadline = self._loop.time() + _LONGEST_STOP
        while self._thread.is_alive() and self._loop.time() < deadline:
            await asyncio.sleep(0.005)

    def _work(self, questions: Iterable[Question[Row]]) -> None:
        iterator = iter(questions)
        try:
            for question in iterator:
                if not self._put(question):
                    break
        except BaseException as error:
            self._error = error
        finally:
            close: Callable[[], Any] | None = getattr(iterator, "close", None)
            if close is not None:
                with contextlib.suppress(Exception):
                    close()
            with self._changed:
                self._ended = True
            self._wake()

    def _put(self, question: Question[Row]) -> bool:
        with self._changed:
            while len(self._made) >= _MADE_AHEAD and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return False
            self._made.append(question)
            first = len(self._made) == 1
        if first:
            self._wake()
        return True

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._arrived.set)


class RequestLoop(Generic[Row]):
    """Answers questions with one `Caller`.

    Attributes:
        cut: the last request whose answer was cut at the limit on tokens, or None.
    """

    def __init__(
        self,
        caller: Caller,
        read_label: LabelReader,
        deliver: Callable[[AnsweredQuestion[Row]], None],
        tally: Tally,
        total: int | None,
        repair: bool,
        failure_limit: FailureLimit | None,
        stop_requested: Callable[[], bool],
        tick: Callable[[], None],
        numbers: Iterator[int],
    ) -> None:
        self._caller, self._read, self._tally = caller, read_label, tally
        self._total, self._repair, self._failure_limit = total, repair, failure_limit
        self._stop_requested, self._tick = stop_requested, tick
        self._delivery = OrderedDelivery(deliver)
        self._numbers = numbers
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
        self._caller.stopping = self._caller.last_rows = False
        ticker = asyncio.create_task(self._ticks())
        made = QuestionThread(questions)
        try:
            try:
                await self._dispatch(made)
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
            await made.stop()

    def take(self, number: int) -> None:
        """Make room for more rows: so many of those delivered were consumed."""
        self._delivery.take(number)

    def stop(self) -> None:
        """End the loop as if the user asked to stop: calls under way may finish."""
        self._end(RequestsInterrupted())

    async def _dispatch(self, made: QuestionThread[Row]) -> None:
        indices = itertools.count()
        while self._ending is None:
            pulled = await self._next(made)
            if not pulled:
                return
            for question in pulled:
                index = next(indices)
                await self._delivery.room(index)
                while len(self._open) >= 2 * self._caller.pacer.limit and self._ending is None:
                    await self._someone_done()
                if self._ending is not None:
                    return
                self._start(index, next(self._numbers), question)

    async def _next(self, made: QuestionThread[Row]) -> list[Question[Row]]:
        """Return the next questions; none once the loop is ending, whatever they wait for."""
        taking = asyncio.ensure_future(made.take())
        while not taking.done():
            self._freed.clear()
            if self._ending is not None:
                break
            freed = asyncio.ensure_future(self._freed.wait())
            await asyncio.wait([taking, freed], return_when=asyncio.FIRST_COMPLETED)
            freed.cancel()
        if taking.done():
            return taking.result()
        taking.cancel()
        return []

    def _start(self, index: int, number: int, question: Question[Row]) -> None:
        task = asyncio.create_task(self._row(index, number, question))
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

    async def _row(self, index: int, number: int, question: Question[Row]) -> None:
        calls: list[Answered] = []
        try:
            if question.request is None:
                row = AnsweredQuestion(question, None, (), 0.0, 0.0, error=question.error)
            else:
                row = await self._asked(number, question, question.request, calls)
        except FailedCallError as error:
            calls = []
            row = AnsweredQuestion(question, None, (), None, error=str(error))
        except PendingError:
            calls = []
            row = AnsweredQuestion(question, None, (), 0.0, 0.0, pending=True)
        self._count(row, calls)
        self._delivery.put(index, row)

    async def _asked(
        self,
        number: int,
        question: Question[Row],
        request: ChatRequest,
        calls: list[Answered],
    ) -> AnsweredQuestion[Row]:
        """Ask, and once more where the answer is no label; if that call fails it stays invalid."""
        calls.append(await self._caller.call(request, number))
        label = self._read(calls[-1].answer.text, request.labels)
        if label is None and self._repair and calls[-1].answer.finish_reason not in _FINAL:
            with contextlib.suppress(FailedCallError):
                again = repair_request(request, calls[-1].answer)
                calls.append(await self._caller.call(again, number, first=False))
                label = self._read(calls[-1].answer.text, request.labels)
                self._tally.repaired += label is not None
        return _answered(question, label, calls)

    def _count(self, row: AnsweredQuestion[Row], calls: list[Answered]) -> None:
        tally = self._tally
        if row.pending:
            return
        asked = row.question.request
        # Further answers to one question are no further rows.
        if asked is None or asked.sample == 0:
            tally.rows += 1
            tally.failed += row.error is not None
            tally.invalid += row.label is None and row.error is None
            if row.is_cut:
                tally.cut += 1
                self.cut = asked
        for call in calls:
            tally.add(call.answer, call.cost, call.own)
        limit = self._failure_limit
        if row.error and limit is not None and limit.reached(tally.failed, self._total or 0):
            raise SentikitError(
                f"{tally.failed} rows have failed, as many as --fail-on-error {limit} allows; the "
                f"last: {row.error} Continue with --resume: answered rows are kept."
            )
        if self.cut is not None and tally.cut == tally.rows == _FIRST_ROWS:
            raise SentikitError(
                f"The first {cut_answers(tally.cut, self.cut)} Nothing more was asked."
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
