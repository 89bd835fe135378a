"""The interface of an LLM backend: whatever answers chat messages."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sentikit.classifiers.prediction import Usage
from sentikit.components import Component
from sentikit.errors import SentikitError, quoted
from sentikit.llm.strategy import Message

#: How far above 0 rounding may leave a log-probability.
_LOG_TOLERANCE = 1e-2


@dataclass(frozen=True)
class ChatRequest:
    """One question to a model.

    Attributes:
        messages: in order.
        labels: the words a valid answer chooses from, as the prompt spells them.
        temperature: of sampling; None leaves it to the server.
        max_tokens: most tokens the answer may have, reasoning included.
        probabilities: whether log-probabilities over the labels are wanted.
        example_id: id of the example asked about; never sent.
        text: text of the example asked about; never sent by itself.
        occurrence: how often the same text was asked about before in this split; never sent.
        sample: number of this answer among several to one question; never sent.
        rationale: whether a reason is wanted before the label, in a field ``rationale``.
        free_text: whether the answer is free text, over which no guarantee is laid.
        expected_tokens: of an answer beside its label, for estimates; never sent.
    """

    messages: tuple[Message, ...]
    labels: tuple[str, ...]
    temperature: float | None = 0.0
    max_tokens: int = 64
    probabilities: bool = True
    example_id: str = ""
    text: str = ""
    occurrence: int = 0
    sample: int = 0
    rationale: bool = False
    free_text: bool = False
    expected_tokens: int = 0


@dataclass(frozen=True)
class RateLimit:
    """What a server says is left; None where it says nothing.

    Attributes:
        requests, tokens: left in the window.
        requests_reset, tokens_reset: seconds until they are full again.
    """

    requests: int | None = None
    requests_reset: float | None = None
    tokens: int | None = None
    tokens_reset: float | None = None


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: the answer, freed of what a label guarantee wraps around it.
        usage: tokens billed; None where the server does not say, which is never taken for zero.
        log_probabilities: label to natural logarithm, not yet normalised over the labels; None
            where the backend has none.
        finish_reason: ``stop``, ``length``, ``content_filter``, … as the server says.
        model, service_tier: that served, as the server says; bills follow the tier.
        raw: the answer as it came, wrapping included.
        billed_usd: what the provider says the call cost, or None; the greater of it and our own
            price counts.
        rate_limit: what the server says is left; not recorded.
    """

    text: str
    usage: Usage | None = None
    log_probabilities: Mapping[str, float] | None = None
    finish_reason: str = "stop"
    model: str = ""
    service_tier: str | None = None
    raw: str = ""
    billed_usd: float | None = None
    rate_limit: RateLimit | None = field(default=None, compare=False)

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Label to probability, normalised over the labels, or None."""
        logs = self.log_probabilities
        if not logs or all(math.isinf(value) for value in logs.values()):
            return None
        top = max(logs.values())
        weights = {label: math.exp(value - top) for label, value in logs.items()}
        total = sum(weights.values())
        return {label: weight / total for label, weight in weights.items()}


class BackendError(SentikitError):
    """A call failed. Raise one of the three below: they say what to do about it."""


class RetryableError(BackendError):
    """The same call may succeed later.

    Attributes:
        reason: ``rate_limit`` (too many calls), ``server`` (it failed), ``network`` (no answer
            came, though it may have been made and billed) or ``unreachable`` (nothing was sent).
        retry_after: seconds the server asks to wait, or None.
        exhausted: whether the server says that nothing is left for any call.
    """

    def __init__(
        self, message: str, reason: str, retry_after: float | None = None, exhausted: bool = False
    ) -> None:
        super().__init__(message)
        self.reason, self.retry_after, self.exhausted = reason, retry_after, exhausted


class RejectedError(BackendError):
    """This call can never succeed, another row's may: too long, refused by a filter."""


class FatalError(BackendError):
    """No call can succeed: no key or a wrong one, no credit, no such model, no such server."""


class BackendSession(Protocol):
    """What the core lends a backend while it opens."""

    #: Whether log-probabilities will be asked for.
    probabilities: bool

    def say(self, message: str) -> None:
        """Tell the user, once."""

    async def reserve(self, most: Usage) -> None:
        """Set money aside for a call of the backend's own; follow it with `settle`.

        What is never settled is given back where the backend raises that the call was refused, and
        else counts as spent. Where the user's budget has no room, a `SentikitError` is raised.
        """

    def settle(self, used: Usage | None) -> None:
        """Book what that call used; None, where the server does not say, counts at its worst."""

    def recall(self, key: str) -> Any:
        """Return what was remembered under `key` (JSON), or None."""

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON value, such as what a server can do, for later runs."""


def answer_problem(answer: object, labels: Sequence[str]) -> str:
    """Return what is wrong with what a backend returned, as a sentence; "" where nothing is."""
    if not isinstance(answer, Answer):
        return f"it returned {quoted(answer)}; it must return an Answer, or raise."
    if not isinstance(answer.text, str) or not isinstance(answer.raw, str):
        return f"its text is {quoted(answer.text)}; a text is needed."
    if answer.usage is not None:
        counts = [getattr(answer.usage, name, None) for name in Usage.__dataclass_fields__]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
            return f"its usage is {quoted(answer.usage)}; whole numbers from 0 on, or None."
    if answer.billed_usd is not None and not 0 <= answer.billed_usd < math.inf:
        return f"its billed_usd is {answer.billed_usd}; USD from 0 on, or None."
    for label, value in (answer.log_probabilities or {}).items():
        if label not in labels:
            return f"its log_probabilities name {quoted(label)}, which is no label."
        if not (isinstance(value, int | float) and value <= _LOG_TOLERANCE):
            return f"its log-probability of {quoted(label)} is {value}; it must be at most 0."
    return ""


class LLMBackend(Component, ABC):
    """Answers chat messages.

    A backend makes one call for each `ask` and raises `RetryableError`, `RejectedError` or
    `FatalError` when it fails: waiting, retries, caching, order, budgets and progress are the
    core's work.

    Attributes:
        most_in_flight: how many calls run at once; None lets the core find out.
        in_process: whether it answers in this process, so that no time limit applies.
        by_occurrence: whether the answer depends on how often a text was asked about before.
        writes_text: whether it writes text, such as a rationale; False for one that only chooses
            among the labels.
        any_model: stands for the only model a server has, where `examine` is asked for that.
        fine_tuner: fine-tunes models for this backend: a subclass of ``FineTuner``, or its
            place as ``"package.module:Class"``; None where there is none.
    """

    most_in_flight: ClassVar[int | None] = None
    in_process: ClassVar[bool] = False
    by_occurrence: ClassVar[bool] = False
    writes_text: ClassVar[bool] = True
    any_model: ClassVar[str] = "?"
    fine_tuner: ClassVar[str | type[Component] | None] = None

    @property
    @abstractmethod
    def model(self) -> str:
        """The model's name, for prices and reports; "" where there is none."""

    @property
    def billed(self) -> bool:
        """Whether calls may cost money; False makes every cost 0."""
        return True

    @property
    def provider(self) -> str:
        """The server's address, for its provider's prices and end dates; "" where there is none."""
        return ""

    @property
    def service_tier(self) -> str | None:
        """The service tier asked for, for reservations; None is the standard one."""
        return None

    @property
    def least_tokens(self) -> int:
        """Tokens an answer takes at least, thinking included, as `open` found out; 0: unknown."""
        return 0

    async def check(self, session: BackendSession) -> None:
        """Refuse what cannot work before a run begins: no key, no such server, no such model.

        Nothing may stay open: `open` comes later.

        Raises:
            InputError: something is missing on this side.
            RetryableError: it may succeed later; called again after a while.
            FatalError: it never will.
        """

    async def open(self, session: BackendSession) -> None:
        """Connect and get ready before the first `ask`; raises as `check` does."""

    async def close(self) -> None:
        """Let go of connections and memory."""

    @abstractmethod
    def canonical(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return all that decides the answer (address and body, as JSON values): the cache's key.

        Before `open` it is what the backend will most likely send. No key or secret may be part
        of it.
        """

    def parameters(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return what is sent beside the messages (JSON values), for trackers; no key or secret."""
        return {"temperature": request.temperature, "max_tokens": request.max_tokens}

    @abstractmethod
    async def ask(self, request: ChatRequest) -> Answer:
        """Make one call.

        Raises:
            RetryableError: it may succeed later.
            RejectedError: it never will; others may.
            FatalError: none will.
        """

    async def examine(self) -> Mapping[str, Any]:
        """Return what the server can do (JSON values), for ``sentikit doctor``."""
        return {"model": self.model}


@dataclass(frozen=True)
class BatchStatus:
    """How far a batch is.

    Attributes:
        state: ``running``; ``done``, with results to fetch, maybe not for all; or ``failed``.
        answered, total: requests it is done with, and holds.
        message: why it failed, or what became of the rest.
    """

    state: str
    answered: int = 0
    total: int = 0
    message: str = ""


class BatchBackend(LLMBackend):
    """A backend whose provider also takes many requests at once and answers within a day.

    All raise a `BackendError`, as `ask` does.

    Attributes:
        batch_requests: the most a batch may hold.
        batch_bytes: the largest a batch's file may be.
    """

    batch_requests: ClassVar[int] = 50_000
    batch_bytes: ClassVar[int] = 190 * 10**6

    @abstractmethod
    def batch_line(self, name: str, request: ChatRequest) -> bytes:
        """Return a request as a line of a batch's file; `name` comes back with its answer."""

    @abstractmethod
    async def submit_batch(self, path: Path, tag: str) -> str:
        """Hand in a file of lines and return the batch's id; `tag` finds it again."""

    @abstractmethod
    async def find_batch(self, tag: str) -> str | None:
        """Return the id of the batch that was handed in with `tag`, or None."""

    @abstractmethod
    async def batch_status(self, batch: str) -> BatchStatus:
        """Say how far a batch is."""

    @abstractmethod
    def batch_answers(
        self, batch: str, labels: tuple[str, ...]
    ) -> AsyncIterator[tuple[str, Answer | str]]:
        """Yield each request's name and its answer, or why it has none.

        A `RetryableError` makes all be asked for again after a while.
        """
