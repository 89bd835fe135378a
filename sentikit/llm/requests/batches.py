"""Answers questions through a provider's batch service: the same requests, a day, half the price.

Whatever a batch answers goes into the journal, where the request loop finds it: what is left, such
as repairs of invalid answers, is asked one by one afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeVar

from sentikit.errors import InputError, SentikitError
from sentikit.files import disk_errors
from sentikit.llm.backend import (
    Answer,
    BatchBackend,
    BatchStatus,
    ChatRequest,
    FatalError,
    LLMBackend,
    answer_problem,
)
from sentikit.llm.prices import describe_cost
from sentikit.llm.requests.calls import LLMMember, title_of
from sentikit.llm.requests.journal import BatchPart, Record
from sentikit.llm.requests.pacing import patiently, unless_stopped
from sentikit.llm.requests.progress import RequestReporter

Result = TypeVar("Result")

#: The tier of prices that batches are billed by.
BATCH_TIER = "batch"
_PREPARED, _SUBMITTED, _FETCHED = "prepared", "submitted", "fetched"
#: What a name of ours holds: a row that SQLite can keep, and the bytes of a SHA-256.
_MOST_ROWS, _KEY_BYTES = 2**63, 32
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
#: Tries of a call about a batch, a minute in all.
_TRIES = 8


class BatchRound:
    """Puts requests that the journal does not know yet through the batch service of one LLM.

    A part is prepared, submitted, fetched, each noted in the journal. A process that is killed
    after handing a part in finds it again by its tag, so that nothing is submitted twice.
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
        self._member, self._budget, self._journal = member, member.budget, member.journal
        self._folder, self._reporter = folder, reporter
        self._stop_requested, self._batches = stop_requested, batches
        self._refusals = f"batch refused {batches}"
        self.known = 0
        self._seen: set[bytes] = set()
        self._refused: set[str] = set()
        self._writer: _PartWriter | None = None
        self._prepared: list[BatchPart] = []

    async def begin(self) -> None:
        """Finish the batches that an earlier sitting submitted."""
        known = [part for part in self._journal.batches(self._batches) if part.state != _FETCHED]
        await self._finish(known, maybe_submitted=True)

    def add(self, row: int, key: bytes, request: ChatRequest) -> None:
        """Write a request into the file of the next batch, unless it is there or was refused."""
        if self._writer is None:
            self._writer = _PartWriter(self._backend, self._folder, self._batches)
            self._writer.number = len(self._journal.batches(self._batches))
            self._refused = set(self._journal.recall(self._refusals) or ())
        if key in self._seen or _name(row, key) in self._refused:
            return
        self._seen.add(key)
        self._writer.add(_name(row, key), request, self._worst(request))

    def prepare(self) -> None:
        """Note all requests that were added, all or none, before they are submitted."""
        if self._writer is None:
            return
        self._writer.close()
        self._refuse_over_ceiling(sum(part.cost or 0 for part in self._writer.written))
        known = self._budget.prices is not None
        self._prepared = [
            part if known else replace(part, cost=None) for part in self._writer.written
        ]
        self._journal.keep_batches(self._batches, self._prepared)

    async def finish(self) -> int:
        """Submit what was prepared, await its answers and return how many requests it held."""
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

    def _worst(self, request: ChatRequest) -> int:
        """Return the most an answer can cost; without a batch's price, what it costs elsewhere."""
        worst = self._budget.worst(request, BATCH_TIER)
        return (self._budget.worst(request) if worst is None else worst) or 0

    def _refuse_over_ceiling(self, worst: int) -> None:
        ledger = self._budget.ledger
        if ledger.ceiling is not None and ledger.spent + worst > ledger.ceiling:
            raise InputError(
                f"The batch may cost {describe_cost(worst)} at worst, and --max-cost "
                f"{describe_cost(ledger.ceiling)} leaves "
                f"{describe_cost(max(0, ledger.ceiling - ledger.spent))}. Raise it, lower "
                "llm.max_tokens, or label fewer examples with --limit. Nothing was submitted."
            )
        ledger.spent += worst

    async def _submit(self, part: BatchPart, maybe_submitted: bool) -> BatchPart:
        if part.state == _SUBMITTED:
            return part
        handed_in = maybe_submitted

        async def hand_in() -> str:
            nonlocal handed_in
            # An answer that was lost, now or before a kill, may have been a batch's beginning.
            found = await self._backend.find_batch(part.tag) if handed_in else None
            handed_in = True
            return found or await self._backend.submit_batch(
                _path(self._folder, part.part), part.tag
            )

        batch = await self._again(hand_in)
        submitted = replace(part, batch=batch, state=_SUBMITTED)
        self._journal.keep_batches(self._batches, [submitted])
        self._reporter.say(f"Submitted {part.requests:,} requests as {batch}.")
        return submitted

    async def _wait(self, part: BatchPart, name: str) -> None:
        assert part.batch is not None
        batch, pause = part.batch, _FIRST_WAIT
        while True:
            status: BatchStatus = await self._again(lambda: self._backend.batch_status(batch))
            self._reporter.waiting(name, status.answered, status.total)
            if status.state == "failed":
                self._journal.keep_batches(self._batches, [replace(part, state=_FETCHED, cost=0)])
                raise SentikitError(
                    f"The batch {batch} failed: {status.message} Nothing of it was billed; mend "
                    "it and resume with --resume, with or without --batch."
                )
            if status.state == "done":
                if status.message:
                    self._reporter.say(f"{batch}: {status.message}")
                return
            await unless_stopped(asyncio.sleep(pause), self._stop_requested)
            pause = min(_LONGEST_WAIT, pause * 1.5)

    async def _fetch(self, part: BatchPart) -> None:
        """Put a batch's answers into the journal, and forget what it was reserved for."""
        # From the first answer, where it breaks off: what was kept before is kept once.
        refused = await self._again(lambda: self._collect(part))
        if refused:
            # Not put into the next batch: the loop asks them once more.
            before = self._journal.recall(self._refusals) or []
            self._journal.remember(self._refusals, sorted({*before, *refused}))
        self._journal.keep_batches(self._batches, [replace(part, state=_FETCHED)])
        # What it was reserved for gives way to what it really cost.
        self._budget.ledger.spent = self._journal.spent(self._member.run)
        with disk_errors(self._folder):
            _path(self._folder, part.part).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    async def _collect(self, part: BatchPart) -> list[str]:
        """Keep a batch's answers, and return the names of the requests that have none."""
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
                kept = self._member.without_keys(answer)
                self._journal.keep(key, Record(self._member.run, row, cost, kept))
            else:
                refused.append(name)
                reasons.append(answer)
        if foreign:
            self._reporter.say(f"{foreign:,} answers of {part.batch} belong to no request of it.")
        if refused:
            self._reporter.say(
                f"{len(refused):,} requests of {part.batch} have no answer ({reasons[0]}). They "
                "are asked one by one, at the price of live calls."
            )
        return refused

    def _cost(self, answer: Answer, part: BatchPart) -> int | None:
        cost = self._budget.cost(answer, BATCH_TIER)
        if cost is None and part.cost and self._budget.ledger.ceiling is not None:
            # A share of what was reserved for the batch: together they come to all of it.
            cost = -(-part.cost // part.requests)
        return cost

    async def _again(self, call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Make a call about a batch, patiently: the batch goes on whatever the network does."""
        return await patiently(
            call, self._member.patience, _TRIES, self._stop_requested, " Go on later with --resume."
        )


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
        """Write a request, into another file where this one is full."""
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
        """Close the file that is being written; it is a whole part."""
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
    """Name a request by its row and key, in few letters: services limit their number."""
    return f"{row}.{base64.urlsafe_b64encode(key).decode().rstrip('=')}"


def _parse_name(name: str) -> tuple[int, bytes] | None:
    """Return a request's row and key; None where the name is none of ours."""
    row, _, key = name.partition(".")
    try:
        parsed = int(row), base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
    except ValueError:
        return None
    possible = 0 <= parsed[0] < _MOST_ROWS and len(parsed[1]) == _KEY_BYTES
    return parsed if possible and _name(*parsed) == name else None
