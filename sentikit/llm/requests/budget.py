"""The budget of a job: offline token counts, reservations under a ceiling, and totals."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sentikit.classifiers.prediction import Usage
from sentikit.errors import SentikitError
from sentikit.llm.backend import (
    Answer,
    ChatRequest,
    FatalError,
    LLMBackend,
    RejectedError,
    RetryableError,
)
from sentikit.llm.prices import Prices, describe_cost, picodollars
from sentikit.llm.requests.journal import AnswerJournal

# Chat templates add tokens to every message (OpenAI: three and the role) and before the answer.
_PER_MESSAGE, _OPENING = 4, 3
# Undocumented tokens that a provider may add; for upper bounds only.
_SLACK = 32
#: Tokens, such as a system message, that a server without usage reports may add to every prompt.
_HIDDEN = 256


class TokenCount(NamedTuple):
    """Tokens of one request's prompt: the expected number and an upper bound."""

    expected: int
    most: int


class TokenCounter:
    """Counts with o200k, the tokenizer of OpenAI's models since GPT-4o.

    For other models the count is an estimate, and the upper bound is the number of UTF-8 bytes: a
    byte-level tokenizer never produces more tokens than bytes.
    """

    def __init__(self, tokenizer: str) -> None:
        self._known = tokenizer == "o200k_base"

    @property
    def exact(self) -> bool:
        """Whether counts are exact for the model."""
        return self._known and _o200k() is not None

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        encode = _o200k()
        if encode is None:
            return -(-len(text.encode("utf-8", "replace")) // 4)
        return len(encode(text))

    def request(self, request: ChatRequest, sent: Mapping[str, Any] | None = None) -> TokenCount:
        """Count a request's prompt; `sent` is the whole request, for the upper bound."""
        contents = [message.content for message in request.messages]
        framing = _PER_MESSAGE * len(contents) + _OPENING
        expected = sum(self.count(content) for content in contents) + framing
        beside = json.dumps(_without_messages(sent or {}), ensure_ascii=False)
        if self.exact:
            return TokenCount(expected, expected + _tokens_beside(beside) + _SLACK)
        size = sum(len(content.encode("utf-8", "replace")) for content in contents)
        extra = len(beside.encode("utf-8", "replace")) + 4 * framing + _SLACK
        return TokenCount(expected, size + extra)


def _without_messages(sent: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_messages(value) if key == "body" else value
        for key, value in sent.items()
        if key != "messages"
    }


@functools.lru_cache(maxsize=64)
def _tokens_beside(text: str) -> int:
    # Most requests send the same text beside their messages, hence the cache.
    return len(_o200k()(text))


@functools.cache
def _o200k() -> Any:
    """Return the encoder, or None if its package has no build for this platform."""
    try:
        with warnings.catch_warnings():
            # It calls an importlib.resources function that Python 3.11 and 3.12 deprecate.
            warnings.simplefilter("ignore", DeprecationWarning)
            import bpe_openai
    except ImportError:
        return None
    # encode_ordinary: the names of special tokens in a review are ordinary text.
    return bpe_openai.get_encoding("o200k_base").encode_ordinary


class BudgetSpentError(SentikitError):
    """The ceiling does not allow another call."""


class Reservation(NamedTuple):
    """Picodollars for one call: its counted worst case, and the amount reserved."""

    worst: int = 0
    amount: int = 0


class Ledger:
    """The money spent and reserved, in picodollars; for one asyncio event loop.

    The first call runs alone: it shows whether the server bills more tokens than were counted, and
    later reservations are scaled by that ratio.
    """

    def __init__(self, ceiling: int | None, spent: int = 0) -> None:
        self.ceiling = ceiling
        self.spent = spent
        self._reserved = 0
        self._factor: float | None = None
        self._changed = asyncio.Event()

    async def reserve(self, worst: int) -> Reservation:
        """Reserve the worst-case cost of a call, waiting for other calls to settle if needed.

        Pass the result to `settle`, `release` or `lose`. Raises a `BudgetSpentError` if it does
        not fit when no call is in flight.
        """
        if self.ceiling is None:
            return Reservation()
        while True:
            amount = worst if self._factor is None else round(worst * self._factor)
            fits = self.spent + self._reserved + amount <= self.ceiling
            alone = self._factor is not None or not self._reserved
            if fits and alone:
                self._reserved += amount
                return Reservation(worst, amount)
            if not self._reserved:
                left = describe_cost(max(0, self.ceiling - self.spent))
                raise BudgetSpentError(
                    f"--max-cost {describe_cost(self.ceiling)} leaves {left}, but the next call "
                    f"may cost {describe_cost(amount)}."
                )
            self._changed.clear()
            await self._changed.wait()

    def settle(self, reserved: Reservation, cost: int) -> None:
        self.spent += cost
        if self.ceiling is None:
            return
        self._reserved -= reserved.amount
        seen = cost / reserved.worst if reserved.worst else 0.0
        self._factor = max(1.0, self._factor or 1.0, seen)
        self._changed.set()

    def release(self, reserved: Reservation) -> None:
        self._reserved -= reserved.amount
        self._changed.set()

    def lose(self, reserved: Reservation) -> None:
        """Count a call whose answer was lost as spent: the provider may have billed it."""
        self.spent += reserved.amount
        self.release(reserved)


class InFlight:
    """The worst-case cost of the calls in flight, for a run without a ceiling.

    Their sum is recorded in the journal from time to time, so that a killed run counts them. With
    a ceiling, each call has its own reservation instead.
    """

    def __init__(self, journal: AnswerJournal, run: str) -> None:
        self._journal, self._run = journal, run
        self._key = b"in flight:" + os.urandom(16)
        self._worst = self._noted = 0

    def add(self, worst: int) -> None:
        self._worst += worst
        if self._worst > self._noted:
            self.note()

    def remove(self, worst: int) -> None:
        self._worst -= worst

    def note(self) -> None:
        """Update the journal; called from time to time and at the end."""
        if self._worst != self._noted:
            self._journal.note(self._key, self._run, self._worst)
            self._noted = self._worst


@dataclass
class Amount:
    """An amount in picodollars, and the number of calls of unknown cost."""

    picodollars: int = 0
    unknown: int = 0

    def add(self, cost: int | None) -> None:
        if cost is None:
            self.unknown += 1
        else:
            self.picodollars += cost

    @property
    def known(self) -> int | None:
        return None if self.unknown else self.picodollars


@dataclass
class Tally:
    """Totals of rows and calls; the names are those of the log."""

    rows: int = 0
    #: Rows without a valid answer, and those of them cut at the token limit.
    invalid: int = 0
    cut: int = 0
    failed: int = 0
    #: Rows whose second answer was valid.
    repaired: int = 0
    #: Answers this run paid for, their tokens and cost, and those without reported usage.
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    calls_without_usage: int = 0
    paid: Amount = field(default_factory=Amount)
    #: Answers found in the journal, and their cost at today's prices.
    saved_calls: int = 0
    saved: Amount = field(default_factory=Amount)
    retries: int = 0
    rate_limit_episodes: int = 0
    #: Number of answers by the service tier that the server reports.
    service_tiers: dict[str, int] = field(default_factory=dict)

    def add(self, answer: Answer, cost: int | None, own: bool) -> None:
        """Count an answer: this run's own, or one found in the journal."""
        if not own:
            self.saved_calls += 1
            self.saved.add(cost)
            return
        self.calls += 1
        if answer.usage is None:
            self.calls_without_usage += 1
        else:
            self.usage += answer.usage
        self.paid.add(cost)
        if answer.service_tier:
            tiers = self.service_tiers
            tiers[answer.service_tier] = tiers.get(answer.service_tier, 0) + 1


@dataclass(frozen=True)
class Budget:
    """Actual and worst-case costs of the calls to one model in picodollars; None if unknown.

    Attributes:
        any_tier: whether a tier without its own price costs as much as the requested tier.
    """

    backend: LLMBackend
    prices: Prices | None
    counter: TokenCounter
    ledger: Ledger
    tally: Tally
    journal: AnswerJournal
    run: str
    in_flight: InFlight
    any_tier: bool = False

    def worst(
        self, request: ChatRequest, tier: str | None = None, unmetered: bool = False
    ) -> int | None:
        if self.prices is None or self.prices.free:
            return None if self.prices is None else 0
        sent = self.backend.canonical(request)
        prompt = self.counter.request(request, sent).most + (_HIDDEN if unmetered else 0)
        return self.prices.worst(prompt, request.max_tokens, tier or self.backend.service_tier)

    def cost(self, answer: Answer, tier: str | None = None) -> int | None:
        """Return the cost of an answer: the listed price or the billed cost, if that is higher."""
        cost = None
        if self.prices is not None:
            cost = self.prices.cost(answer.usage, tier or answer.service_tier)
            if cost is None and self.any_tier:
                cost = self.prices.cost(answer.usage, self.backend.service_tier)
        if answer.billed_usd is None:
            return cost
        return max(cost or 0, picodollars(answer.billed_usd))

    async def reserve(self, key: bytes, worst: int | None) -> Reservation:
        """Reserve the worst-case cost of a call, in the journal too."""
        if self.ledger.ceiling is None:
            self.in_flight.add(worst or 0)
            return Reservation(worst or 0)
        assert worst is not None
        reserved = await self.ledger.reserve(worst)
        self.journal.reserve(key, self.run, reserved.amount)
        return reserved

    def settle(self, request: ChatRequest, reserved: Reservation, answer: Answer) -> int | None:
        cost = self.cost(answer)
        if cost is None and self.ledger.ceiling is not None:
            # If usage or the tier's price is unknown, the worst case counts; visible reasoning in
            # the answer may exceed the token limit.
            most = max(request.max_tokens, self.counter.count(answer.raw))
            worst = self.worst(replace(request, max_tokens=most), unmetered=True)
            cost = max(reserved.amount, worst or 0)
        self.ledger.settle(reserved, cost or 0)
        if self.ledger.ceiling is None:
            self.in_flight.remove(reserved.worst)
        return cost

    def release(self, key: bytes, reserved: Reservation) -> None:
        """Release the reservation of a call that was not billed."""
        if self.ledger.ceiling is None:
            self.in_flight.remove(reserved.worst)
        else:
            self.ledger.release(reserved)
            self.journal.release(key, self.run, reserved.amount)

    def unsettle(self, key: bytes, reserved: Reservation, error: BaseException) -> None:
        """Release a failed call's reservation, unless the provider may have billed it."""
        refused = isinstance(error, RejectedError | FatalError) or (
            isinstance(error, RetryableError) and error.reason != "network"
        )
        if refused:
            self.release(key, reserved)
        elif not isinstance(error, SentikitError) or isinstance(error, RetryableError):
            self.ledger.lose(reserved)
