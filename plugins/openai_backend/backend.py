"""The backend ``openai``: OpenAI's chat completions or responses, at any compatible server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sentikit.extension import (
    Answer,
    BackendError,
    BackendSession,
    BatchBackend,
    BatchStatus,
    ChatRequest,
    ComponentSettings,
    RetryableError,
    model_facts,
)

from .bodies import API, BY_NAME, WITH_REASONING, Abilities, Api, Guarantee, Prompt
from .responses import (
    as_count,
    as_mapping,
    label_log_probabilities,
    parse_body,
    rate_limit,
    read_completion,
    read_error,
)
from .settings import OpenAISettings, find_secrets

if TYPE_CHECKING:
    from .connection import Connection

# Keys of a body that affect price or speed, but not the answer.
_ROUTING = frozenset({"prompt_cache_key", "service_tier"})
#: For batches (https://platform.openai.com/docs/guides/batch): the metadata key of our tag, how
#: many batches are searched for it, and what their states mean.
_TAG, _MOST_SEARCHED = "sentikit", 1000
_STATES = {"completed": "done", "expired": "done", "cancelled": "done", "failed": "failed"}


class OpenAIBackend(BatchBackend):
    """Chat completions or responses of OpenAI, or of a server compatible with it."""

    Settings = OpenAISettings
    settings: OpenAISettings
    fine_tuner: ClassVar[str] = f"{__package__}.finetuning:OpenAIFineTuner"

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        self.settings.refuse_secrets()
        # Every request needs these.
        self._address, self._is_openai = self.settings.address, self.settings.is_openai
        self._connection: Connection[OpenAISettings] | None = None
        self._abilities: Abilities | None = None
        #: Request bodies without messages, by the values they depend on.
        self._shapes: dict[tuple[Any, ...], dict[str, Any]] = {}

    @property
    def model(self) -> str:
        return self.settings.model

    @property
    def provider(self) -> str:
        return self.settings.address

    @property
    def service_tier(self) -> str | None:
        return self.settings.service_tier

    @property
    def least_tokens(self) -> int:
        """Tokens that the model's reasoning took in the probe, or an estimate before it.

        It is 0 for a model that does not reason.
        """
        return self._expected_thinking if self._abilities is None else self._abilities.limit

    @cached_property
    def _expected_thinking(self) -> int:
        thinks = model_facts(self.model, provider=self.provider).reasoning
        return WITH_REASONING if thinks and self.settings.reasoning_effort != "none" else 0

    @property
    def connection(self) -> Connection[OpenAISettings]:
        """The connection, opened at the first use."""
        if self._connection is None:
            from .connection import Connection

            self._connection = Connection(self.settings)
        return self._connection

    def check_key(self) -> None:
        """Refuse a missing key or header."""
        find_secrets(self.settings)

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
        """Probe what the server can do, once for each server and model."""
        from .probing import find_abilities

        self._abilities = await find_abilities(self.connection, session)
        self._shapes.clear()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def canonical(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the address and the body, without keys that only affect price and speed."""
        settings = self.settings
        body = {k: v for k, v in self.body(request).items() if k not in _ROUTING}
        if settings.cache_name is not None:
            return {"name": settings.cache_name, "body": body}
        return {**self._where, "body": body}

    @cached_property
    def _where(self) -> dict[str, Any]:
        settings = self.settings
        where: dict[str, Any] = {"url": self._address, "query": dict(settings.query)}
        return where | ({"headers": dict(settings.headers)} if settings.headers else {})

    def parameters(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the body that is sent, without model and messages."""
        left_out = ("model", "messages", "input")
        return {k: v for k, v in self.body(request).items() if k not in left_out}

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """Return the body that is sent."""
        shape = (
            request.labels,
            request.max_tokens,
            request.temperature,
            request.probabilities,
            request.rationale,
            request.free_text,
        )
        if shape not in self._shapes:
            self._shapes[shape] = self._body_without_messages(request)
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        body = {self._api.messages: messages, **self._shapes[shape]}
        cache_key = self._cache_key(request)
        if cache_key is not None:
            body.setdefault("prompt_cache_key", cache_key)
        return body

    def _body_without_messages(self, request: ChatRequest) -> dict[str, Any]:
        """Return the keys that most requests of a run share."""
        settings, api = self.settings, self._api
        prompt = Prompt((), request.max_tokens, request.temperature, request.probabilities)
        body = api.body(settings, self.abilities, prompt)
        del body[api.messages]
        if not request.free_text:
            body |= api.guarantee_body(self._guarantee, request.labels, request.rationale)
        return body | settings.extra_body

    @property
    def abilities(self) -> Abilities:
        """What the server can do; before the probe, what is expected."""
        return self._abilities or Abilities.expected(self.settings)

    @property
    def _api(self) -> Api:
        return API[self.settings.api]

    @property
    def _guarantee(self) -> Guarantee:
        return BY_NAME[self.abilities.guarantee]

    def _cache_key(self, request: ChatRequest) -> str | None:
        """Return a key for prompts with the same beginning; only OpenAI supports the field."""
        if self.settings.prompt_cache_key is not None:
            return self.settings.prompt_cache_key
        if not self._is_openai or not request.messages:
            return None
        start = "".join(message.content for message in request.messages)[:256]
        return "sentikit-" + hashlib.sha256(start.encode("utf-8", "replace")).hexdigest()[:16]

    async def ask(self, request: ChatRequest) -> Answer:
        value, headers = await self.connection.post(self._api.path, self.body(request))
        return self.read_answer(value, request, headers)

    def read_answer(
        self, value: Mapping[str, Any], request: ChatRequest, headers: Mapping[str, str]
    ) -> Answer:
        answer = read_completion(value)
        if answer is None:
            raise RetryableError("The server's answer holds no message.", "server")
        without_keys = self.connection.without_keys
        refused = answer.refusal and not answer.text
        return Answer(
            text=without_keys(self._guarantee.read(answer)),
            usage=answer.usage,
            log_probabilities=label_log_probabilities(answer.tokens, request.labels),
            finish_reason="refusal" if refused else answer.finish_reason,
            model=answer.model,
            service_tier=answer.service_tier,
            raw=without_keys(self._guarantee.raw(answer)),
            billed_usd=answer.billed_usd,
            rate_limit=rate_limit(headers),
        )

    def batch_line(self, name: str, request: ChatRequest) -> bytes:
        # A batch is a service tier of its own.
        body = {k: v for k, v in self.body(request).items() if k not in _ROUTING}
        line = {"custom_id": name, "method": "POST", "url": self._api.endpoint, "body": body}
        return json.dumps(line, separators=(",", ":")).encode("ascii")

    async def submit_batch(self, path: Path, tag: str) -> str:
        guard, client = self.connection.guard, self.connection.client
        uploaded = await guard(client.files.create(file=path, purpose="batch"))
        endpoint: Any = self._api.endpoint
        batch = await guard(
            client.batches.create(
                input_file_id=uploaded.id,
                endpoint=endpoint,
                completion_window="24h",
                metadata={_TAG: tag},
            )
        )
        return str(batch.id)

    async def find_batch(self, tag: str) -> str | None:
        after: str | None = None
        for _ in range(_MOST_SEARCHED // 100):
            options: Any = {"limit": 100} | ({"after": after} if after else {})
            page = await self.connection.guard(self.connection.client.batches.list(**options))
            listed = page.data if isinstance(page.data, list) else []
            for batch in listed:
                if as_mapping(batch.metadata).get(_TAG) == tag:
                    return str(batch.id)
            if not listed or not page.has_more:
                return None
            after = listed[-1].id
        return None

    async def batch_status(self, batch: str) -> BatchStatus:
        connection = self.connection
        found = await connection.guard(connection.client.batches.retrieve(batch))
        completed, failed, total = (
            as_count(getattr(found.request_counts, name, 0)) or 0
            for name in ("completed", "failed", "total")
        )
        # An unknown status is not finished.
        state = _STATES.get(str(found.status), "running")
        message = ""
        if state == "failed":
            errors = getattr(found.errors, "data", None) or []
            messages = (getattr(error, "message", None) for error in errors)
            reasons = dict.fromkeys(str(reason) for reason in messages if reason)
            message = connection.safe("; ".join(reasons) or "no reason given.")
        elif state == "done" and found.status != "completed":
            message = f"{found.status} with {completed:,} of {total:,} requests answered."
        return BatchStatus(state, completed + failed, total, message)

    async def batch_answers(
        self, batch: str, labels: tuple[str, ...]
    ) -> AsyncIterator[tuple[str, Answer | str]]:
        """Yield the results of a batch: those of its output file, then those of its error file."""
        guard, client = self.connection.guard, self.connection.client
        found = await guard(client.batches.retrieve(batch))
        for file_id in (found.output_file_id, found.error_file_id):
            if not isinstance(file_id, str):
                continue
            content = await guard(client.files.content(file_id))
            # Split as bytes: text lines also end inside an answer, for example at U+2028.
            for row in content.content.split(b"\n"):
                value = parse_body(row)
                # A line without an object leaves its request unanswered.
                if isinstance(value, Mapping):
                    yield str(value.get("custom_id")), self._batch_answer(value, labels)

    def _batch_answer(self, value: Mapping[str, Any], labels: tuple[str, ...]) -> Answer | str:
        response, safe = value.get("response"), self.connection.safe
        body = response.get("body") if isinstance(response, Mapping) else response
        if as_mapping(response).get("status_code") == 200:
            if not isinstance(body, Mapping):
                return safe(f"The answer is no chat completion: {body!r}")
            try:
                self.connection.refuse_failure(body)
                return self.read_answer(body, ChatRequest((), labels), {})
            except BackendError as error:
                return error.message
        message = read_error(value).message or read_error(body).message
        return safe(message or json.dumps(value.get("error") or body))

    async def examine(self) -> Mapping[str, Any]:
        """Return what the server can do, for ``sentikit doctor``."""
        from .probing import examine

        return await examine(self.connection)
