"""The interface of LLM backends, which answer chat messages."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sentikit.chat import Answer, ChatRequest, Usage
from sentikit.components import Component
from sentikit.errors import SentikitError, quoted

#: Rounding may leave a log-probability this far above 0.
_LOG_TOLERANCE = 1e-2


class BackendError(SentikitError):
    """A failed call. Raise one of the three subclasses, which decide what happens next."""


class RetryableError(BackendError):
    """A failure after which the same call may succeed later.

    Attributes:
        reason: ``rate_limit`` (too many calls), ``server`` (it failed), ``network`` (no answer
            arrived, but the call may be billed) or ``unreachable`` (nothing was sent).
        retry_after: seconds the server asks to wait, or None.
        exhausted: whether the server reports that the quota is used up for all calls.
    """

    def __init__(
        self, message: str, reason: str, retry_after: float | None = None, exhausted: bool = False
    ) -> None:
        super().__init__(message)
        self.reason, self.retry_after, self.exhausted = reason, retry_after, exhausted


class RejectedError(BackendError):
    """A failure of this row alone: its prompt is too long, or a filter refuses it."""


class FatalError(BackendError):
    """A failure of every call: a missing or wrong key, no credit, an unknown model or server."""


class BackendSession(Protocol):
    """What the core offers a backend in `check` and `open`."""

    #: Whether log-probabilities will be requested.
    probabilities: bool

    def say(self, message: str) -> None:
        """Show a message to the user, once."""

    async def reserve(self, most: Usage) -> None:
        """Reserve money for a call that the backend makes itself; follow it with `settle`.

        An unsettled reservation is released if the backend raises that the call was refused, and
        counts as spent otherwise. Raises a `SentikitError` if it does not fit the user's budget.
        """

    def settle(self, used: Usage | None) -> None:
        """Record what that call used; None, for unreported usage, counts as the reservation."""

    def recall(self, key: str) -> Any:
        """Return the JSON value stored under `key`, or None."""

    def remember(self, key: str, value: Any) -> None:
        """Store a JSON value, such as a server's capabilities, for later runs."""


def answer_problem(answer: object, labels: Sequence[str]) -> str:
    """Return what is wrong with a backend's return value, as a sentence, or ""."""
    if not isinstance(answer, Answer):
        return f"it returned {quoted(answer)}; it must return an Answer or raise an error."
    if not isinstance(answer.text, str) or not isinstance(answer.raw, str):
        return f"its text is {quoted(answer.text)}; it must be a string, like its raw."
    if answer.usage is not None:
        counts = [getattr(answer.usage, name, None) for name in Usage.__dataclass_fields__]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
            return f"its usage is {quoted(answer.usage)}; use whole numbers of at least 0, or None."
    if answer.billed_usd is not None and not 0 <= answer.billed_usd < math.inf:
        return f"its billed_usd is {answer.billed_usd}; use USD of at least 0, or None."
    for label, value in (answer.log_probabilities or {}).items():
        if label not in labels:
            return f"its log_probabilities name {quoted(label)}, which is not a label."
        if not (isinstance(value, int | float) and value <= _LOG_TOLERANCE):
            return f"its log-probability of {quoted(label)} is {value}; it must be at most 0."
    return ""


class LLMBackend(Component, ABC):
    """Answers chat messages.

    A backend makes one call for each `ask` and raises `RetryableError`, `RejectedError` or
    `FatalError` when it fails. The core takes care of waiting, retries, caching, order, budgets
    and progress.

    Attributes:
        most_in_flight: maximum number of concurrent calls; None lets the core adapt it.
        in_process: whether it answers in this process, so that no timeout applies.
        by_occurrence: whether the answer depends on how often the same text was sent before.
        writes_text: whether it can write text, such as a rationale; False if it only chooses
            among the labels.
        any_model: placeholder for a server's only model, which `examine` then finds.
        fine_tuner: the subclass of ``FineTuner`` for this backend's models, or its location as
            ``"package.module:Class"``; None if they cannot be fine-tuned.
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
        """The model's name, for prices and reports; "" if it has none."""

    @property
    def billed(self) -> bool:
        """Whether calls may cost money; if False, every cost is 0."""
        return True

    @property
    def provider(self) -> str:
        """The server's address, for the provider's prices and end dates; "" if there is none."""
        return ""

    @property
    def service_tier(self) -> str | None:
        """The requested service tier, for reservations; None is the standard one."""
        return None

    @property
    def least_tokens(self) -> int:
        """Minimum tokens of an answer, thinking included, known after `open`; 0 if unknown."""
        return 0

    def check_key(self) -> None:
        """Refuse a missing key, without a network and before any heavy import.

        Raises:
            InputError: the message names its environment variable.
        """

    async def check(self, session: BackendSession) -> None:
        """Check the key, the server and the model before a run begins; keep no connection open.

        Raises:
            InputError: something is missing on this machine.
            RetryableError: it may succeed later; the core calls again after a pause.
            FatalError: it cannot succeed.
        """

    async def open(self, session: BackendSession) -> None:
        """Connect before the first `ask`; raises the same errors as `check`."""

    async def close(self) -> None:
        """Release connections and memory."""

    @abstractmethod
    def canonical(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return everything that determines the answer (address and body): the cache's key.

        The values are JSON, without keys or secrets. Before `open`, return what the backend will
        most likely send.
        """

    def parameters(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return what is sent besides the messages, for trackers: JSON values, no secrets."""
        return {"temperature": request.temperature, "max_tokens": request.max_tokens}

    @abstractmethod
    async def ask(self, request: ChatRequest) -> Answer:
        """Make one call.

        Raises:
            RetryableError: it may succeed later.
            RejectedError: it cannot succeed, but other calls may.
            FatalError: no call can succeed.
        """

    async def examine(self) -> Mapping[str, Any]:
        """Return the server's capabilities (JSON values), for ``sentikit doctor``."""
        return {"model": self.model}


@dataclass(frozen=True)
class BatchStatus:
    """The progress of a batch.

    Attributes:
        state: ``running``, ``done`` (its results can be fetched, perhaps not all) or ``failed``.
        answered, total: number of requests completed, and in the batch.
        message: why it failed, or what happened to the requests without a result.
    """

    state: str
    answered: int = 0
    total: int = 0
    message: str = ""


class BatchBackend(LLMBackend):
    """A backend with a batch service, which answers many requests within a day.

    All methods raise a `BackendError`, as `ask` does.

    Attributes:
        batch_requests: maximum number of requests in a batch.
        batch_bytes: maximum size of a batch's file.
    """

    batch_requests: ClassVar[int] = 50_000
    batch_bytes: ClassVar[int] = 190 * 10**6

    @abstractmethod
    def batch_line(self, name: str, request: ChatRequest) -> bytes:
        """Return a request as a line of a batch's file; its answer carries the same `name`."""

    @abstractmethod
    async def submit_batch(self, path: Path, tag: str) -> str:
        """Submit a file of lines and return the batch's id; `find_batch` finds it by `tag`."""

    @abstractmethod
    async def find_batch(self, tag: str) -> str | None:
        """Return the id of the batch that was submitted with `tag`, or None."""

    @abstractmethod
    async def batch_status(self, batch: str) -> BatchStatus:
        """Return the progress of a batch."""

    @abstractmethod
    def batch_answers(
        self, batch: str, labels: tuple[str, ...]
    ) -> AsyncIterator[tuple[str, Answer | str]]:
        """Yield each request's name with its answer, or with the reason why it has none.

        After a `RetryableError`, the core fetches all answers again.
        """
