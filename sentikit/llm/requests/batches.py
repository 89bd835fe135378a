"""Batch services of providers: the same requests at half the price, answered within a day.

The answers go into the journal, where the request loop finds them. The loop then makes live calls
for the rest, such as repairs of invalid answers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeVar

from sentikit.chat import Answer, ChatRequest
from sentikit.errors import InputError, SentikitError
from sentikit.files import disk_errors
from sentikit.llm.backend import BatchBackend, BatchStatus, FatalError, LLMBackend, answer_problem
from sentikit.llm.prices import describe_cost
from sentikit.llm.requests.calls import LLMMember, title_of, without_keys
from sentikit.llm.requests.journal import BatchPart, Record
from sentikit.llm.requests.pacing import unless_stopped, with_retries
from sentikit.llm.requests.progress import RequestReporter

Result = TypeVar("Result")

#: The tier of prices that batches are billed by.
BATCH_TIER = "batch"
_PREPARED, _SUBMITTED, _FETCHED = "prepared", "submitted", "fetched"
#: Limits of the names made here: a row that fits SQLite, and the bytes of a SHA-256.
_MOST_ROWS, _KEY_BYTES = 2**63, 32
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
#: Attempts at a call about a batch, over a minute in all.
_TRIES = 8


class BatchRound:
    """Sends the requests that have no answer yet to the batch service of one LLM.

    The journal records when each part is prepared, submitted and fetched. After a kill, a
    submitted part is found by its tag, so that nothing is submitted twice.
    """

    def __init__(
        self,
        member: LLMMember,
        folder: Path,
        reporter: RequestReporter,
        stop_requested: Callable[[], bool],
        batches: str,
    ) -> None:
        self._backend = needed_batches(member.backend)
        self._member, self._pricing, self._budget = member, member.pricing, member.budget
        self._journal = member.journal
        self._folder, self._reporter = folder, reporter
        self._stop_requested, self._batches = stop_requested, batches
        self._refusals = f"batch refused {batches}"
        self.known = 0
        self._seen: set[bytes] = set()
        self._refused: set[str] = set()
        self._writer: _PartWriter | None = None
        self._prepared: list[BatchPart] = []

    async def begin(self) -> None:
        """Finish the batches that an earlier process submitted."""
        known = [part for part in self._journal.batches(self._batches) if part.state != _FETCHED]
        await self._finish(known, maybe_submitted=True)

    def add(self, row: int, key: bytes, request: ChatRequest, sent: Mapping[str, Any]) -> None:
        """Add a request to the next batch, unless it is a duplicate or was refused before."""
        if self._writer is None:
            self._writer = _PartWriter(self._backend, self._folder, self._batches)
            self._writer.number = len(self._journal.batches(self._batches))
            self._refused = set(self._journal.recall(self._refusals) or ())
        if key in self._seen or _name(row, key) in self._refused:
            return
        self._seen.add(key)
        self._writer.add(_name(row, key), request, self._worst(request, sent))

    def prepare(self) -> None:
        """Record all added requests, or none, before they are submitted."""
        if self._writer is None:
            return
        self._writer.close()
        self._refuse_over_ceiling(sum(part.cost or 0 for part in self._writer.written))
        known = self._pricing.prices is not None
        self._prepared = [
            part if known else replace(part, cost=None) for part in self._writer.written
        ]
        self._journal.keep_batches(self._batches, self._prepared)

    async def finish(self) -> int:
        """Submit the prepared requests, await their answers and return their number."""
        await self._finish(self._prepared, maybe_submitted=False)
        return len(self._seen)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def _finish(self, parts: list[BatchPart], maybe_submitted: bool) -> None:
        submitted = [await self._submit(part, maybe_submitted) for part in parts]
        for number, part in enumerate(submitted, 1):
            await self._wait(part, f"batch {number} of {len(submitted)}")
            await self._fetch(part)

    def _worst(self, request: ChatRequest, sent: Mapping[str, Any]) -> int:
        """Return the worst-case cost, at the live price if the batch price is unknown."""
        worst = self._pricing.worst(request, sent, BATCH_TIER)
        return (self._pricing.worst(request, sent) if worst is None else worst) or 0

    def _refuse_over_ceiling(self, worst: int) -> None:
        ledger = self._budget.ledger
        if ledger.ceiling is not None and ledger.spent + worst > ledger.ceiling:
            raise InputError(
                f"The batch may cost up to {describe_cost(worst)}, but --max-cost "
                f"{describe_cost(ledger.ceiling)} leaves "
                f"{describe_cost(max(0, ledger.ceiling - ledger.spent))}. Nothing was submitted. "
                "Raise --max-cost, lower llm.max_tokens, or label fewer examples with --limit."
            )
        ledger.spent += worst

    async def _submit(self, part: BatchPart, maybe_submitted: bool) -> BatchPart:
        if part.state == _SUBMITTED:
            return part
        attempted = maybe_submitted

        async def submit() -> str:
            nonlocal attempted
            # An earlier attempt may have created the batch, although its response was lost.
            found = await self._backend.find_batch(part.tag) if attempted else None
            attempted = True
            return found or await self._backend.submit_batch(
                _path(self._folder, part.part), part.tag
            )

        batch = await self._retried(submit)
        submitted = replace(part, batch=batch, state=_SUBMITTED)
        self._journal.keep_batches(self._batches, [submitted])
        self._reporter.say(f"Submitted {part.requests:,} requests as {batch}.")
        return submitted

    async def _wait(self, part: BatchPart, name: str) -> None:
        assert part.batch is not None
        batch, pause = part.batch, _FIRST_WAIT
        while True:
            status: BatchStatus = await self._retried(lambda: self._backend.batch_status(batch))
            self._reporter.waiting(name, status.answered, status.total)
            if status.state == "failed":
                self._journal.keep_batches(self._batches, [replace(part, state=_FETCHED, cost=0)])
                raise SentikitError(
                    f"The batch {batch} failed: {status.message} It was not billed. Fix the cause "
                    "and resume with --resume, with or without --batch."
                )
            if status.state == "done":
                if status.message:
                    self._reporter.say(f"{batch}: {status.message}")
                return
            await unless_stopped(asyncio.sleep(pause), self._stop_requested)
            pause = min(_LONGEST_WAIT, pause * 1.5)

    async def _fetch(self, part: BatchPart) -> None:
        """Put a batch's answers into the journal and release its reservation."""
        # A retry starts at the first answer again; the journal keeps each answer once.
        refused = await self._retried(lambda: self._collect(part))
        if refused:
            # They are left out of the next batch; the loop makes live calls for them.
            before = self._journal.recall(self._refusals) or []
            self._journal.remember(self._refusals, sorted({*before, *refused}))
        self._journal.keep_batches(self._batches, [replace(part, state=_FETCHED)])
        # The actual cost replaces the reservation.
        self._budget.ledger.spent = self._journal.spent(self._member.run)
        with disk_errors(self._folder):
            _path(self._folder, part.part).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    async def _collect(self, part: BatchPart) -> list[str]:
        """Store a batch's answers, and return the names of the requests without one."""
        assert part.batch is not None
        refused: list[str] = []
        foreign, reasons = 0, list[str]()
        async for name, answer in self._backend.batch_answers(part.batch, self._member.labels):
            found = _parse_name(name)
            if found is None:
                foreign += 1
                continue
            row, key = found
            if isinstance(answer, Answer):
                if problem := answer_problem(answer, self._member.labels):
                    raise FatalError(f"{title_of(self._backend)}: {problem}")
                cost = self._cost(answer, part)
                if self._member.secrets.search(f"{answer.text}\n{answer.raw}"):
                    answer = without_keys(answer)
                self._journal.keep(key, Record(self._member.run, row, cost, answer))
            else:
                refused.append(name)
                reasons.append(answer)
        if foreign:
            self._reporter.say(
                f"Ignored {foreign:,} answers of {part.batch} that match none of its requests."
            )
        if refused:
            self._reporter.say(
                f"{len(refused):,} requests of {part.batch} have no answer ({reasons[0]}). They "
                "are sent as live calls, at their full price."
            )
        return refused

    def _cost(self, answer: Answer, part: BatchPart) -> int | None:
        cost = self._pricing.cost(answer, BATCH_TIER)
        if cost is None and part.cost and self._budget.ledger.ceiling is not None:
            # An equal share of the batch's reservation.
            cost = -(-part.cost // part.requests)
        return cost

    async def _retried(self, call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        advice = " The batch continues at the provider; resume later with --resume."
        return await with_retries(call, self._member.patience, _TRIES, self._stop_requested, advice)


def needed_batches(backend: LLMBackend) -> BatchBackend:
    if not isinstance(backend, BatchBackend):
        raise InputError("This LLM backend has no batch service. Leave --batch out.")
    return backend


class _PartWriter:
    def __init__(self, backend: BatchBackend, folder: Path, batches: str) -> None:
        self._backend, self._folder, self._batches = backend, folder, batches
        self.number = 0
        self._stream: IO[bytes] | None = None
        self._bytes = self._requests = self._cost = 0
        self.written: list[BatchPart] = []

    def add(self, name: str, request: ChatRequest, cost: int) -> None:
        """Write a request, starting another file if this one is full."""
        line = self._backend.batch_line(name, request) + b"\n"
        full = self._requests >= self._backend.batch_requests
        if full or self._bytes + len(line) > self._backend.batch_bytes:
            self.close()
        with disk_errors(self._folder):
            if self._stream is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._stream = _path(self._folder, self.number).open("wb")
            self._stream.write(line)
        self._bytes += len(line)
        self._requests += 1
        self._cost += cost

    def close(self) -> None:
        """Close the current file, which completes a part."""
        if self._stream is None:
            return
        with disk_errors(self._folder):
            self._stream.close()
        tag = f"{self._batches}-{self.number}"
        part = BatchPart(self.number, tag, None, _PREPARED, self._requests, self._cost)
        self.written.append(part)
        self._stream = None
        self.number += 1
        self._bytes = self._requests = self._cost = 0


def _path(folder: Path, part: int) -> Path:
    return folder / f"batch-{part}.jsonl"


def _name(row: int, key: bytes) -> str:
    """Return a request's name: its row and key, short because services limit the length."""
    return f"{row}.{base64.urlsafe_b64encode(key).decode().rstrip('=')}"


def _parse_name(name: str) -> tuple[int, bytes] | None:
    """Return the row and key in a request's name; None if `_name` did not make it."""
    row, _, key = name.partition(".")
    try:
        parsed = int(row), base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
    except ValueError:
        return None
    possible = 0 <= parsed[0] < _MOST_ROWS and len(parsed[1]) == _KEY_BYTES
    return parsed if possible and _name(*parsed) == name else None
