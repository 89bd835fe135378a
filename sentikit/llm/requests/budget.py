"""The budget of a job: tokens counted offline, money reserved under a ceiling, answers tallied."""

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

# Chat templates frame every message (OpenAI: three tokens and the role), then open the answer.
_PER_MESSAGE, _OPENING = 4, 3
# Tokens a provider may add that no public rule counts, for bounds only.
_SLACK = 32
#: Tokens that a server which says nothing about usage may put before every prompt, such as a
#: system message of its own.
_HIDDEN = 256


class TokenCount(NamedTuple):
    """Tokens of one request's prompt: those of its messages, and the most it can have in all."""

    expected: int
    most: int


class TokenCounter:
    """Counts with o200k, the tokenizer of OpenAI's models since GPT-4o.

    For any other model the count is an estimate and the bound is the number of UTF-8 bytes: no
    byte-level tokenizer has more tokens than bytes.
    """

    def __init__(self, tokenizer: str) -> None:
        self._known = tokenizer == "o200k_base"

    @property
    def exact(self) -> bool:
        """Whether counts are exact for the model."""
        return self._known and _o200k() is not None

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        encode = _o200k()
        if encode is None:
            return -(-len(text.encode("utf-8", "replace")) // 4)
        return len(encode(text))

    def request(self, request: ChatRequest, sent: Mapping[str, Any] | None = None) -> TokenCount:
        """Count a request's prompt; `sent` is all that goes to the server, for the bounds."""
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
    """Count what is sent beside the messages, which is the same for most requests."""
    return len(_o200k()(text))


@functools.cache
def _o200k() -> Any:
    """Return the encoder, loaded at first use, or None where its package has no build here."""
    try:
        with warnings.catch_warnings():
            # It opens its vocabularies by a function that Python 3.11 and 3.12 call deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            import bpe_openai
    except ImportError:
        return None
    # Names of special tokens in a review are ordinary text, hence encode_ordinary.
    return bpe_openai.get_encoding("o200k_base").encode_ordinary


class BudgetSpentError(SentikitError):
    """The ceiling leaves no room for another call."""


class Reservation(NamedTuple):
    """Picodollars for one call: the worst it was counted to cost, and what was set aside for it."""

    worst: int = 0
    amount: int = 0


class Ledger:
    """Money in picodollars; asyncio, one event loop.

    The first call runs alone: it shows whether the server bills more tokens than were counted, and
    later reservations grow by as much.
    """

    def __init__(self, ceiling: int | None, spent: int = 0) -> None:
        self.ceiling = ceiling
        self.spent = spent
        self._reserved = 0
        self._factor: float | None = None
        self._changed = asyncio.Event()

    async def reserve(self, worst: int) -> Reservation:
        """Set aside the worst a call can cost, waiting for others to settle where needed.

        It goes back to `settle`, `release` or `lose`. Where it does not fit and no call in flight
        can make room, a `BudgetSpentError` says so.
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
                    f"--max-cost {describe_cost(self.ceiling)} leaves {left}, and the next call "
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
        """Book a call whose answer was lost: the provider may have billed it in full."""
        self.spent += reserved.amount
        self.release(reserved)


class InFlight:
    """What a run without a ceiling may be billed for calls that have no answer.

    Those in flight are noted in the journal together, seldom and at their worst, so that a run that
    is killed counts them; with a ceiling each has a reservation of its own.
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
        """Bring the journal up to date; called now and then, and at the end."""
        if self._worst != self._noted:
            self._journal.note(self._key, self._run, self._worst)
            self._noted = self._worst


@dataclass
class Money:
    """Picodollars, with the calls whose price is unknown counted beside."""

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
    """Counts of rows and calls, by the names that the log gives them."""

    rows: int = 0
    #: Rows without a valid answer, and those of them that the limit on tokens cut.
    invalid: int = 0
    cut: int = 0
    failed: int = 0
    #: Rows whose second answer was valid.
    repaired: int = 0
    #: Answers this run paid for, their tokens and cost, and those without a word on usage.
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    calls_without_usage: int = 0
    paid: Money = field(default_factory=Money)
    #: Answers that were there before, and their cost at today's prices.
    saved_calls: int = 0
    saved: Money = field(default_factory=Money)
    retries: int = 0
    rate_limit_episodes: int = 0
    #: Service tier to answers, where the server says.
    service_tiers: dict[str, int] = field(default_factory=dict)

    def add(self, answer: Answer, cost: int | None, own: bool) -> None:
        """Count an answer: this run's own, or one that was there before."""
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
    """What the calls to one model cost and may cost, in picodollars; None where it is unknown.

    Attributes:
        any_tier: whether a tier without a price of its own costs what the tier asked for does.
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
        """Return the greater of our price for an answer and of what the provider says it cost."""
        cost = None
        if self.prices is not None:
            cost = self.prices.cost(answer.usage, tier or answer.service_tier)
            if cost is None and self.any_tier:
                cost = self.prices.cost(answer.usage, self.backend.service_tier)
        if answer.billed_usd is None:
            return cost
        return max(cost or 0, picodollars(answer.billed_usd))

    async def reserve(self, key: bytes, worst: int | None) -> Reservation:
        """Set aside the worst that a call can cost, in the journal too."""
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
            # Where usage, or the price of the tier that served, is unknown, the worst case stands,
            # and thinking that the answer shows may go beyond the limit.
            most = max(request.max_tokens, self.counter.count(answer.raw))
            worst = self.worst(replace(request, max_tokens=most), unmetered=True)
            cost = max(reserved.amount, worst or 0)
        self.ledger.settle(reserved, cost or 0)
        if self.ledger.ceiling is None:
            self.in_flight.remove(reserved.worst)
        return cost

    def release(self, key: bytes, reserved: Reservation) -> None:
        """Forget a reservation: the call was never billed."""
        if self.ledger.ceiling is None:
            self.in_flight.remove(reserved.worst)
        else:
            self.ledger.release(reserved)
            self.journal.release(key, self.run, reserved.amount)

    def unsettle(self, key: bytes, reserved: Reservation, error: BaseException) -> None:
        """Give a failed call's reservation back, unless the provider may have billed its answer."""
        refused = isinstance(error, RejectedError | FatalError) or (
            isinstance(error, RetryableError) and error.reason != "network"
        )
        if refused:
            self.release(key, reserved)
        elif not isinstance(error, SentikitError) or isinstance(error, RetryableError):
            self.ledger.lose(reserved)
