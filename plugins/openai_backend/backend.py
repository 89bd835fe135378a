"""The backend ``openai``: chat completions of any server that speaks OpenAI's protocol."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sentikit.extension import (
    Answer,
    BackendSession,
    BatchBackend,
    BatchStatus,
    ChatRequest,
    PartSettings,
    RejectedError,
    RetryableError,
)

from .completions import PATH, first_choice, read_usage
from .guarantees import BY_NAME, Guarantee
from .label_probabilities import label_log_probabilities
from .rate_limits import rate_limit
from .settings import OpenAISettings

if TYPE_CHECKING:
    from .abilities import Abilities
    from .client import Connection

# Keys of a body that change its price or its speed, never the answer.
_ROUTING = frozenset({"prompt_cache_key", "service_tier"})


class OpenAIBackend(BatchBackend):
    """Chat completions (https://platform.openai.com/docs/api-reference/chat/create)."""

    Settings = OpenAISettings
    settings: OpenAISettings
    fine_tuner: ClassVar[str] = f"{__package__}.finetuning:OpenAIFineTuner"

    def __init__(self, settings: PartSettings) -> None:
        super().__init__(settings)
        self.settings.refuse_secrets()
        self._connection: Connection | None = None
        self._abilities: Abilities | None = None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.settings.model

    @property
    def service_tier(self) -> str | None:
        """The tier asked for."""
        return self.settings.service_tier

    @property
    def connection(self) -> Connection:
        """The server, connected to at the first use."""
        if self._connection is None:
            from .client import Connection

            self._connection = Connection(self.settings)
        return self._connection

    async def check(self, session: BackendSession) -> None:
        """Find out whether the server answers this key and model, and what it can do."""
        from .probing import check_key, known_abilities

        try:
            if known_abilities(self.connection, session) is not None:
                await check_key(self.connection)
            await self.open(session)
        finally:
            await self.close()

    async def open(self, session: BackendSession) -> None:
        """Find out, once for each server and model, what it can do."""
        from .probing import find_abilities

        self._abilities = await find_abilities(self.connection, session)

    async def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def canonical(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the address and what is sent to it, less what only changes price and speed."""
        body = {k: v for k, v in self.body(request).items() if k not in _ROUTING}
        return {"url": self.settings.address, "query": dict(self.settings.query), "body": body}

    def parameters(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the body that is sent, less model and messages."""
        return {k: v for k, v in self.body(request).items() if k not in ("model", "messages")}

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """Return the body that is sent."""
        settings, abilities = self.settings, self.abilities
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        body: dict[str, Any] = {"model": settings.model, "messages": messages}
        body[abilities.limit_key] = request.max_tokens
        if request.temperature is not None and abilities.temperature:
            body["temperature"] = request.temperature
        if request.probabilities and abilities.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": abilities.top_logprobs}
        if settings.reasoning_effort is not None:
            body["reasoning_effort"] = settings.reasoning_effort
        if settings.service_tier is not None:
            body["service_tier"] = settings.service_tier
        cache_key = self._cache_key(request)
        if cache_key is not None:
            body["prompt_cache_key"] = cache_key
        return body | self._guarantee.body(request.labels) | settings.extra_body

    @property
    def abilities(self) -> Abilities:
        """What the server can do, or most likely can, as long as it has not been asked."""
        if self._abilities is None:
            from .abilities import Abilities

            return Abilities.expected(self.settings)
        return self._abilities

    @property
    def _guarantee(self) -> Guarantee:
        return BY_NAME[self.abilities.guarantee]

    def _cache_key(self, request: ChatRequest) -> str | None:
        """Return what tells prompts with one beginning from others; only OpenAI knows the field."""
        if self.settings.prompt_cache_key is not None:
            return self.settings.prompt_cache_key
        if not self.settings.is_openai or not request.messages:
            return None
        start = "".join(message.content for message in request.messages)[:256]
        return "sentikit-" + hashlib.sha256(start.encode("utf-8", "replace")).hexdigest()[:16]

    async def ask(self, request: ChatRequest) -> Answer:
        """Make one call."""
        value, headers = await self.connection.post(PATH, self.body(request))
        return self.read_answer(value, request, headers)

    def read_answer(
        self, value: Mapping[str, Any], request: ChatRequest, headers: Mapping[str, str]
    ) -> Answer:
        """Turn a chat completion into an answer.

        Raises:
            RejectedError: it holds no answer, and says why not.
            RetryableError: it holds no answer.
        """
        choice = first_choice(value)
        if not choice:
            error = value.get("error")
            if error:
                raise RejectedError(f"The server answers: {self.connection.safe(str(error))}")
            raise RetryableError("The server's answer holds no message.", "server")
        message = choice["message"] or {}
        logs = (choice.get("logprobs") or {}).get("content")
        return Answer(
            text=self._guarantee.read(message),
            usage=read_usage(value),
            log_probabilities=label_log_probabilities(logs, request.labels),
            finish_reason=str(choice.get("finish_reason") or ""),
            model=str(value.get("model") or ""),
            service_tier=value.get("service_tier"),
            raw=self._guarantee.raw(message),
            rate_limit=rate_limit(headers),
        )

    def batch_line(self, name: str, request: ChatRequest) -> bytes:
        """Return the same body as a line of a batch's file; a batch is a tier of its own."""
        from .batches import line

        return line(name, {k: v for k, v in self.body(request).items() if k not in _ROUTING})

    async def submit_batch(self, path: Path, tag: str) -> str:
        """Upload the file and start the batch."""
        from .batches import submit

        return await submit(self.connection, path, tag)

    async def find_batch(self, tag: str) -> str | None:
        """Look for a batch among the latest."""
        from .batches import find

        return await find(self.connection, tag)

    async def batch_status(self, batch: str) -> BatchStatus:
        """Say how far a batch is."""
        from .batches import status

        return await status(self.connection, batch)

    async def batch_answers(
        self, batch: str, labels: tuple[str, ...]
    ) -> AsyncIterator[tuple[str, Answer | str]]:
        """Yield a batch's answers."""
        from .batches import answers

        asked = ChatRequest((), labels)

        def read(value: Mapping[str, Any]) -> Answer:
            return self.read_answer(value, asked, {})

        async for name, answer in answers(self.connection, batch, read):
            yield name, answer

    async def examine(self) -> Mapping[str, Any]:
        """Return what the server can do, for ``sentikit doctor``."""
        from .examining import examine

        return await examine(self.connection)
