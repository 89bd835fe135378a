"""The request loop: makes many calls at once and delivers the answers in order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from queue import Queue, SimpleQueue
from typing import Any, Generic, TypeVar

from sentikit.chat import Answer, ChatRequest, Message, Usage
from sentikit.errors import SentikitError
from sentikit.llm.prices import PICODOLLARS
from sentikit.llm.requests.calls import FailedCallError, LLMMember, PendingError, StoppedError
from sentikit.llm.settings import Limits
from sentikit.stopping import Interrupted

Row = TypeVar("Row")


@dataclass(frozen=True)
class Question(Generic[Row]):
    """One row's request; `row` is returned with the answer."""

    row: Row
    #: None if there is nothing to ask, as for an empty text.
    request: ChatRequest | None
    #: Why the row fails without a request, if it does.
    error: str | None = None


@dataclass(frozen=True)
class AnsweredQuestion(Generic[Row]):
    """The outcome of one row."""

    question: Question[Row]
    #: One of the request's labels; None if no answer was valid or the row failed.
    label: str | None
    #: The first answer and, if that was invalid, its repair; empty if the row failed.
    answers: tuple[Answer, ...]
    #: USD of the answers, and of those that this row paid for; None if unknown.
    cost: float | None
    paid: float | None = None
    #: Whether all answers came from the cache.
    saved: bool = False
    error: str | None = None
    #: Whether the request was collected for a batch or an estimate.
    pending: bool = False

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Label to probability, from the answer with the label; 0 for labels it does not rate."""
        request = self.question.request
        known = self.answers[-1].probabilities if self.answers else None
        if self.label is None or request is None or known is None:
            return None
        # An answer kept for other classes may name labels that this request does not have.
        found = {label: known.get(label, 0.0) for label in request.labels}
        # In free text, the tokens may differ from the label that the strategy parses.
        unlike = request.free_text and found[self.label] < max(found.values())
        return None if unlike else found

    @property
    def is_cut(self) -> bool:
        """Whether the token limit cut the answer before it contained a label."""
        ended = self.answers[-1].finish_reason if self.answers else ""
        return self.label is None and ended == "length"

    @property
    def usage(self) -> Usage | None:
        """Tokens of all answers; None without an answer or if one reports no usage."""
        total: Usage | None = None
        for answer in self.answers:
            if answer.usage is None:
                return None
            total = answer.usage if total is None else total + answer.usage
        return total


#: Finish reasons after which a repair cannot help.
_FINAL = frozenset({"content_filter", "length"})
#: A run stops if its first rows, so many, are all cut.
_FIRST_ROWS = 20


def cut_answers(number: int, request: ChatRequest) -> str:
    were = "answer was" if number == 1 else "answers were"
    return (
        f"{number:,} {were} cut at llm.max_tokens={request.max_tokens}. Raise it, or lower "
        "llm.reasoning_effort."
    )


def repair_request(request: ChatRequest, answer: Answer) -> ChatRequest:
    """Return the request that shows the model its invalid answer and asks for a label."""
    invalid = answer.text.strip() or "…"
    quoted = [f"'{label}'" for label in request.labels]
    choices = " or ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
    asked = Message("user", f"Answer with exactly one word: {choices}.")
    messages = (*request.messages, Message("assistant", invalid), asked)
    return replace(request, messages=messages, rationale=False, free_text=False)


_TICK = 0.2
Item = TypeVar("Item")
#: Items produced ahead of the consumer.
_PREFETCHED = 256
#: Seconds to wait for the producing thread to stop.
_LONGEST_STOP = 20.0
#: Items delivered together before the event loop learns of the room they leave.
_TAKEN_AT_ONCE = 64


class Prefetcher(Generic[Item]):
    """Iterates in its own thread, some items ahead: making an item may run an encoder."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._loop = asyncio.get_running_loop()
        self._made: Queue[Item] = Queue(_PREFETCHED)
        self._arrived = asyncio.Event()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(items,), daemon=True)
        self._thread.start()

    async def take(self) -> list[Item]:
        """Return the items made since the last call, at least one; none at the end."""
        while not self._closed:
            self._arrived.clear()
            ended = self._ended
            if taken := self._drain():
                return taken
            if self._error is not None:
                raise self._error
            if ended:
                break
            await self._arrived.wait()
        return []

    def close(self) -> None:
        """Make `take` return nothing from now on."""
        self._closed = True
        self._arrived.set()

    async def stop(self) -> None:
        """End the thread; if it blocks in its iterator, leave it after some seconds."""
        self.close()
        deadline = self._loop.time() + _LONGEST_STOP
        while self._thread.is_alive() and self._loop.time() < deadline:
            self._drain()
            await asyncio.sleep(0.005)

    def _drain(self) -> list[Item]:
        return [self._made.get_nowait() for _ in range(self._made.qsize())]

    def _work(self, items: Iterable[Item]) -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                self._made.put(item)
                if self._closed:
                    break
                if self._made.qsize() == 1:
                    self._wake()
        except BaseException as error:
            self._error = error
        finally:
            close: Callable[[], Any] | None = getattr(iterator, "close", None)
            if close is not None:
                with contextlib.suppress(Exception):
                    close()
            self._ended = True
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._arrived.set)


class OrderedDelivery(Generic[Item]):
    """Delivers items from the event loop to a thread in order, within a window."""

    def __init__(self, window: int = 4096) -> None:
        self._window = window
        self._early: dict[int, Item] = {}
        self._next = self._taken = 0
        self._moved = asyncio.Event()
        self._closed = False
        self._ready: SimpleQueue[Item | None] = SimpleQueue()

    async def room(self, index: int) -> None:
        """Wait until the item of `index` fits the window, or until `close`."""
        while index - self._taken >= self._window and not self._closed:
            self._moved.clear()
            await self._moved.wait()

    def close(self) -> None:
        """Release the tasks that wait in `room`."""
        self._closed = True
        self._moved.set()

    def put(self, index: int, item: Item) -> None:
        """Deliver an item, and those waiting behind it, when it is their turn."""
        self._early[index] = item
        while self._next in self._early:
            self._ready.put(self._early.pop(self._next))
            self._next += 1

    def end(self) -> None:
        self._ready.put(None)

    def take(self, number: int) -> None:
        """Move the window: `number` more items were consumed."""
        self._taken += number
        self._moved.set()

    def __iter__(self) -> Iterator[list[Item]]:
        """Yield lists of the items that are ready, in another thread, which then calls `take`."""
        while True:
            number = min(_TAKEN_AT_ONCE, max(1, self._ready.qsize()))
            taken = [self._ready.get() for _ in range(number)]
            yield [item for item in taken if item is not None]
            if taken[-1] is None:
                return


class RequestLoop(Generic[Row]):
    """Answers questions to one LLM."""

    def __init__(
        self,
        member: LLMMember,
        limits: Limits,
        stop_requested: Callable[[], bool],
        tick: Callable[[], None],
    ) -> None:
        self._member, self._tally, self._limits = member, member.tally, limits
        self._stop_requested, self._tick = stop_requested, tick
        self.answered: OrderedDelivery[AnsweredQuestion[Row]] = OrderedDelivery()
        self._open: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._ending: BaseException | None = None
        self._made: Prefetcher[Question[Row]] | None = None
        #: The last request whose answer was cut at the token limit.
        self.cut: ChatRequest | None = None

    async def run(self, questions: Iterable[Question[Row]]) -> None:
        """Answer all questions; an error is raised after calls in flight and the prefetcher end."""
        self._member.stopping = self._member.last_rows = False
        # Opening may take minutes, and a batch a day: an outage is measured from now.
        self._member.patience.answered()
        ticker = asyncio.create_task(self._ticks())
        made = self._made = Prefetcher(questions)
        try:
            try:
                await self._dispatch(made)
            except Exception as error:
                # A question that cannot be made: calls in flight are paid, so they finish first.
                self._end(error)
            self._member.last_rows = True
            while self._open and self._ending is None:
                await self._any_done()
            if self._ending is not None:
                await self._cancel(self._open - self._member.calling)
                raise self._ending
        except BaseException:
            await self._cancel(self._open)
            raise
        finally:
            ticker.cancel()
            await made.stop()

    def stop(self) -> None:
        """End the loop as if the user asked to stop: calls in flight may finish."""
        self._end(Interrupted())

    async def _dispatch(self, made: Prefetcher[Question[Row]]) -> None:
        indices = itertools.count()
        while self._ending is None:
            taken = await made.take()
            if not taken:
                return
            for question in taken:
                index = next(indices)
                await self.answered.room(index)
                while len(self._open) >= 2 * self._member.pacer.limit and self._ending is None:
                    await self._any_done()
                if self._ending is not None:
                    return
                self._start(index, next(self._member.numbers), question)

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

    async def _any_done(self) -> None:
        self._freed.clear()
        await self._freed.wait()

    async def _row(self, index: int, number: int, question: Question[Row]) -> None:
        try:
            if question.request is None:
                row = AnsweredQuestion(question, None, (), 0.0, 0.0, error=question.error)
            else:
                row = await self._asked(number, question, question.request)
        except FailedCallError as error:
            row = AnsweredQuestion(question, None, (), None, error=str(error))
        except PendingError:
            row = AnsweredQuestion(question, None, (), 0.0, 0.0, pending=True)
        self._count(row)
        self.answered.put(index, row)

    async def _asked(
        self, number: int, question: Question[Row], request: ChatRequest
    ) -> AnsweredQuestion[Row]:
        """Ask, and once more if the answer is invalid; it stays invalid if that call fails."""
        member, read = self._member, self._member.read_label
        calls = [await member.call(request, number)]
        label = read(calls[-1].answer.text, request.labels)
        if label is None and member.options.repair and calls[-1].answer.finish_reason not in _FINAL:
            with contextlib.suppress(FailedCallError):
                again = repair_request(request, calls[-1].answer)
                calls.append(await member.call(again, number, first=False))
                label = read(calls[-1].answer.text, request.labels)
                self._tally.repaired += label is not None
        costs = [call.cost for call in calls]
        paid = [call.cost for call in calls if call.own]
        return AnsweredQuestion(
            question,
            label,
            tuple(call.answer for call in calls),
            None if None in costs else sum(filter(None, costs)) / PICODOLLARS,
            None if None in paid else sum(filter(None, paid)) / PICODOLLARS,
            saved=not paid,
        )

    def _count(self, row: AnsweredQuestion[Row]) -> None:
        tally = self._tally
        if row.pending:
            return
        asked = row.question.request
        # Further samples of one question are not further rows.
        if asked is None or asked.sample == 0:
            tally.rows += 1
            tally.failed += row.error is not None
            tally.invalid += row.label is None and row.error is None
            if row.is_cut:
                tally.cut += 1
                self.cut = asked
        limit = self._limits.failure_limit
        if row.error and limit and limit.reached(tally.failed, self._limits.total or 0):
            raise SentikitError(
                f"{tally.failed} rows have failed, which reaches --fail-on-error {limit}; the "
                f"last: {row.error} Answered rows are kept; resume with --resume."
            )
        if self.cut is not None and tally.cut == tally.rows == _FIRST_ROWS:
            raise SentikitError(
                f"The first {cut_answers(tally.cut, self.cut)} The run stopped there."
            )

    def _end(self, why: BaseException | None) -> None:
        """Start no new call; those in flight may finish, because they are paid."""
        if self._ending is None and why is not None:
            self._ending = why
            self._member.stopping = True
            self._freed.set()
            self.answered.close()
            if self._made is not None:
                self._made.close()

    async def _ticks(self) -> None:
        while True:
            try:
                self._tick()
            except SentikitError as error:
                # The journal cannot be written.
                self._end(error)
            if self._stop_requested():
                self._end(Interrupted())
            await asyncio.sleep(_TICK)

    async def _cancel(self, tasks: set[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        while self._open:
            await asyncio.wait(self._open)
