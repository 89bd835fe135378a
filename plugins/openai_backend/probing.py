"""Probes: a few short calls that show what a server can do with a model."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import openai

from sentikit.extension import (
    BackendError,
    BackendSession,
    FatalError,
    LLMBackend,
    Message,
    RejectedError,
    RetryableError,
    Usage,
)

from .bodies import API, WITH_REASONING, Abilities, Guarantee, Prompt
from .connection import Connection
from .responses import Completion, read_completion
from .settings import OpenAISettings

# Without a guarantee, the answer is a greeting and none of these.
_LABELS = ("amber", "cobalt", "sienna")
_GREETING = "Greet me with one friendly word."
_COUNTING = "Count from one to fifty in words."
_SHORT, _LONG = 16, 64
_MOST_PROMPT = 400
#: Servers that limit the number of alternatives allow so many.
_FEW_ALTERNATIVES = 5
_MOST_CORRECTIONS = 6


async def find_abilities(
    connection: Connection[OpenAISettings], session: BackendSession
) -> Abilities:
    """Return the server's abilities: remembered, or probed now."""
    known = known_abilities(connection, session)
    if known is not None:
        return known
    probe = Probe(connection, session)
    expected = Abilities.expected(connection.settings, session.probabilities)
    abilities = await probe.plain(expected)
    if connection.settings.guarantee == "auto":
        abilities = await probe.strongest(abilities)
    abilities = replace(abilities, limit=probe.limit if probe.limit > _LONG else 0)
    session.remember(_memory_key(connection, session), abilities.to_json())
    return abilities


def known_abilities(
    connection: Connection[OpenAISettings], session: BackendSession
) -> Abilities | None:
    """Return the abilities that were probed before, or None."""
    known = session.recall(_memory_key(connection, session))
    return None if known is None else Abilities.from_json(known)


async def check_key(connection: Connection[OpenAISettings]) -> None:
    """Request the list of models, which is free, to check server and key."""
    try:
        await connection.guard(connection.client.get("/models", cast_to=object))
    except RetryableError as error:
        # A server that cannot list its models may still answer.
        if error.reason in ("network", "unreachable"):
            raise
    except FatalError as error:
        if "(401" in error.message:
            raise
    except RejectedError:
        return


def _memory_key(connection: Connection[OpenAISettings], session: BackendSession) -> str:
    settings = connection.settings
    choices: list[Any] = [settings.guarantee, settings.reasoning_effort, settings.extra_body]
    if settings.api != "chat" or not session.probabilities:
        choices += [settings.api, session.probabilities]
    return f"openai {settings.address} {settings.model} {json.dumps(choices, sort_keys=True)}"


class Probe:
    """Short questions to a server, within the session's budget."""

    def __init__(self, connection: Connection[OpenAISettings], session: BackendSession) -> None:
        self.connection, self.session = connection, session
        self.limit = _SHORT
        self._api = API[connection.settings.api]

    async def plain(self, expected: Abilities) -> Abilities:
        """Return `expected` without what the server refuses in an ordinary request."""
        abilities = expected
        for _ in range(_MOST_CORRECTIONS):
            try:
                return self._seen(abilities, await self._ask(_COUNTING, abilities, {}))
            except RejectedError as error:
                abilities = self._corrected(abilities, error)
        raise FatalError(f"{self.connection.settings.address} refuses even a simple question.")

    async def strongest(self, abilities: Abilities) -> Abilities:
        """Return the abilities with the strongest guarantee that holds."""
        for guarantee in self._api.guarantees(self.connection.settings):
            found = await self.holds(guarantee, abilities)
            if found is not None:
                return found
        raise AssertionError("free text always holds")

    async def holds(self, guarantee: Guarantee, abilities: Abilities) -> Abilities | None:
        """Return the abilities with a guarantee, or None if the server does not enforce it.

        The answer decides, not the status: some servers accept a guarantee and ignore it.
        """
        tried = replace(abilities, guarantee=guarantee.name)
        if guarantee.name == "text":
            return tried
        self.limit = max(self.limit, _LONG)
        try:
            if await self._enforces(guarantee, tried):
                return tried
            silent = replace(tried, top_logprobs=0)
            if tried.top_logprobs and await self._enforces(guarantee, silent):
                return silent
        except RetryableError as error:
            if error.reason != "server":
                raise
        return None

    async def _enforces(self, guarantee: Guarantee, abilities: Abilities) -> bool:
        """Return whether the answer is one of the labels; False if the request is refused."""
        for _ in range(2):
            try:
                keys = self._api.guarantee_body(guarantee, _LABELS)
                answer = await self._ask(_GREETING, abilities, keys)
            except RejectedError as error:
                if self._too_short(error):
                    continue
                return False
            if guarantee.read(answer) in _LABELS:
                return True
            if not answer.is_cut or self.limit >= WITH_REASONING:
                return False
            self.limit = WITH_REASONING
        return False

    async def _ask(
        self, question: str, abilities: Abilities, more: Mapping[str, Any]
    ) -> Completion:
        try:
            return await self._call(question, abilities, more)
        except RetryableError as error:
            if error.reason != "server":
                raise
            await asyncio.sleep(error.retry_after or 0.5)
            return await self._call(question, abilities, more)

    async def _call(
        self, question: str, abilities: Abilities, more: Mapping[str, Any]
    ) -> Completion:
        body: dict[str, Any] = {**self._body(question, abilities), **more}
        await self.session.reserve(Usage(prompt=_MOST_PROMPT, completion=self.limit))
        try:
            value, _ = await self.connection.post(self._api.path, body)
        except RejectedError:
            self.session.settle(Usage())
            raise
        except RetryableError as error:
            if error.reason != "network":
                self.session.settle(Usage())
            raise
        answer = read_completion(value)
        self.session.settle(Usage() if answer is None else answer.usage)
        if answer is None:
            raise FatalError(
                f"{self.connection.settings.address} answers JSON, but no chat completion. Check "
                "llm.base_url; it usually ends in /v1."
            )
        return answer

    def _body(self, question: str, abilities: Abilities) -> dict[str, Any]:
        settings = self.connection.settings
        prompt = Prompt([Message("user", question)], self.limit)
        return self._api.body(settings, abilities, prompt) | settings.extra_body

    def _corrected(self, abilities: Abilities, error: RejectedError) -> Abilities:
        """Return the abilities without the one that a refusal names; raise if it names none."""
        message, model = error.message, self.connection.settings.model
        if self._too_short(error):
            return abilities
        if "logprob" in message.lower() and abilities.top_logprobs:
            return self._fewer_logprobs(abilities, message)
        if "temperature" in message and abilities.temperature:
            self.session.say(f"{model} takes no temperature; it is left out.")
            return replace(abilities, temperature=False)
        if abilities.limit_key in message and abilities.limit_key == "max_completion_tokens":
            return replace(abilities, limit_key="max_tokens")
        raise FatalError(f"{self.connection.settings.address}: {message}") from error

    def _fewer_logprobs(self, abilities: Abilities, message: str) -> Abilities:
        """Ask for as many as the refusal allows, or for none."""
        named = [int(number) for number in re.findall(r"\b\d{1,2}\b", message.partition(": ")[2])]
        fewer = max((n for n in named if 0 < n < abilities.top_logprobs), default=0)
        if not fewer and "top_logprobs" in message and abilities.top_logprobs > _FEW_ALTERNATIVES:
            fewer = _FEW_ALTERNATIVES
        if not fewer:
            self.session.say(
                f"{self.connection.settings.model} gives no log-probabilities, so the run will "
                "have no probabilities."
            )
        return replace(abilities, top_logprobs=fewer)

    def _too_short(self, error: RejectedError) -> bool:
        """Raise the limit if a reasoning model did not finish thinking."""
        if "limit was reached" not in error.message or self.limit >= WITH_REASONING:
            return False
        self.limit = WITH_REASONING
        return True

    def _seen(self, abilities: Abilities, answer: Completion) -> Abilities:
        """Remove abilities that the server accepted but ignored."""
        if answer.listed > self.limit + 1 and abilities.limit_key == "max_completion_tokens":
            abilities = replace(abilities, limit_key="max_tokens")
        if answer.text and all(token.log is None for token in answer.tokens):
            abilities = replace(abilities, top_logprobs=0)
        return abilities


class _Memory:
    """A session that collects messages and has no budget."""

    probabilities = True

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)

    async def reserve(self, most: Usage) -> None:
        return

    def settle(self, used: Usage | None) -> None:
        return

    def recall(self, key: str) -> Any:
        return None

    def remember(self, key: str, value: Any) -> None:
        return


#: Most models to show of a server's list.
_MOST_LISTED = 100


async def examine(connection: Connection[OpenAISettings]) -> Mapping[str, Any]:
    """Return the server's models, and the abilities of the model asked about."""
    models = await _models(connection)
    report: dict[str, Any] = {"address": connection.settings.address, "models": models}
    settings = _of_only_model(connection.settings, models)
    if settings is None and models is None:
        raise FatalError(
            f"{connection.settings.address} lists no models. Is it an OpenAI-compatible server? "
            "The address usually ends in /v1; or name a model with --model."
        )
    if settings is None:
        report["warnings"] = ["Name one of its models with --model to see what it can do."]
        return report
    connection.settings = settings
    report["model"] = settings.model
    memory = _Memory()
    probe = Probe(connection, memory)
    began = time.monotonic()
    abilities = await probe.plain(Abilities.expected(settings))
    report["seconds_per_call"] = round(time.monotonic() - began, 3)
    report["guarantees"] = await _guarantees(connection, probe, abilities)
    report["probabilities"] = abilities.top_logprobs > 0
    report["temperature"] = abilities.temperature
    report["limit_key"] = abilities.limit_key
    report["warnings"] = memory.messages
    return report


def _of_only_model(
    settings: OpenAISettings, models: list[dict[str, Any]] | None
) -> OpenAISettings | None:
    """Return the settings with a model: the one asked for, or the only one listed."""
    if settings.model != LLMBackend.any_model:
        return settings
    if models is not None and len(models) == 1:
        return settings.model_copy(update={"model": models[0]["id"]})
    return None


async def _guarantees(
    connection: Connection[OpenAISettings], probe: Probe, abilities: Abilities
) -> dict[str, bool]:
    found = {}
    for guarantee in API[connection.settings.api].guarantees(connection.settings):
        if guarantee.name == "text":
            continue
        found[guarantee.name] = await probe.holds(guarantee, abilities) is not None
    return found


async def _models(connection: Connection[OpenAISettings]) -> list[dict[str, Any]] | None:
    """Return the models a server lists, with shutdown dates, or None if it lists none."""
    try:
        listed = await connection.guard(connection.client.get("/models", cast_to=object))
    except RetryableError:
        raise
    except (BackendError, openai.OpenAIError):
        return None
    entries = listed.get("data") if isinstance(listed, Mapping) else None
    if not isinstance(entries, list):
        return None
    return [
        {key: entry[key] for key in ("id", "shutdown_date") if entry.get(key)}
        for entry in entries[:_MOST_LISTED]
        if isinstance(entry, Mapping)
    ]
