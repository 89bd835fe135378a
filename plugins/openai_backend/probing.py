"""Finds out, with a few short calls, what a server can do with a model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sentikit import BackendSession, FatalError, RejectedError, RetryableError, Usage

from .abilities import Abilities
from .client import Connection
from .completions import PATH, first_choice, read_usage
from .guarantees import FOREIGN, LADDER, Guarantee

# An answer that is not held to the labels is a greeting, never one of these.
_LABELS = ("amber", "cobalt", "sienna")
_GREETING = "Greet me with one friendly word."
_COUNTING = "Count from one to fifty in words."
_SHORT, _LONG = 16, 64
#: Reasoning models think before they answer, even a greeting.
_WITH_REASONING = 512
_MOST_PROMPT = 400
_MOST_LESSONS = 6


async def find_abilities(connection: Connection, session: BackendSession) -> Abilities:
    """Return what the server can do: as remembered, or found out now.

    Raises:
        FatalError: the server answers no chat request at all.
        RetryableError: it may later.
    """
    known = known_abilities(connection, session)
    if known is not None:
        return known
    probe = Probe(connection, session)
    abilities = await probe.plain(Abilities.expected(connection.settings))
    if connection.settings.guarantee == "auto":
        abilities = await probe.strongest(abilities)
    session.remember(_memory_key(connection), abilities.to_json())
    return abilities


def known_abilities(connection: Connection, session: BackendSession) -> Abilities | None:
    """Return what was found out before, or None."""
    known = session.recall(_memory_key(connection))
    return None if known is None else Abilities.from_json(known)


async def check_key(connection: Connection) -> None:
    """Ask for the list of models, which costs nothing, to see that server and key are right.

    Raises:
        FatalError: the key is refused.
        RetryableError: the server cannot be reached.
    """
    try:
        await connection.guard(connection.client.get("/models", cast_to=object))
    except RetryableError as error:
        # Whoever fails at listing models may still answer.
        if error.reason in ("network", "unreachable"):
            raise
    except FatalError as error:
        if "(401" in error.message:
            raise
    except RejectedError:
        return


def _memory_key(connection: Connection) -> str:
    settings = connection.settings
    told = [settings.guarantee, settings.reasoning_effort, settings.extra_body]
    return f"openai {settings.address} {settings.model} {json.dumps(told, sort_keys=True)}"


class Probe:
    """Asks short questions; each is budgeted and booked by the session."""

    def __init__(self, connection: Connection, session: BackendSession) -> None:
        self.connection, self.session = connection, session
        self.limit = _SHORT

    async def plain(self, expected: Abilities) -> Abilities:
        """Return `expected` less whatever the server refuses in an ordinary request."""
        abilities = expected
        for _ in range(_MOST_LESSONS):
            try:
                value = await self._ask(_COUNTING, abilities, {})
                return self._seen(abilities, value)
            except RejectedError as error:
                abilities = self._lesson(abilities, error)
        raise FatalError(f"{self.connection.settings.address} refuses even a simple question.")

    async def strongest(self, abilities: Abilities) -> Abilities:
        """Return the abilities with the strongest guarantee that holds."""
        for guarantee in LADDER:
            if guarantee.name in FOREIGN and self.connection.settings.is_openai:
                continue
            found = await self.holds(guarantee, abilities)
            if found is not None:
                return found
        raise AssertionError("free text always holds")

    async def holds(self, guarantee: Guarantee, abilities: Abilities) -> Abilities | None:
        """Try one guarantee.

        Returns:
            What the server can do together with it, or None where it does not hold. The answer
            decides, never the status: some servers accept what they then ignore.
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
        """Say whether the answer is one of the labels; a refused request is a no."""
        for _ in range(2):
            try:
                value = await self._ask(_GREETING, abilities, guarantee.body(_LABELS))
            except RejectedError as error:
                if self._too_short(error):
                    continue
                return False
            choice = first_choice(value)
            if guarantee.read(choice.get("message") or {}) in _LABELS:
                return True
            if choice.get("finish_reason") != "length" or self.limit >= _WITH_REASONING:
                return False
            self.limit = _WITH_REASONING
        return False

    async def _ask(
        self, question: str, abilities: Abilities, more: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        try:
            return await self._call(question, abilities, more)
        except RetryableError as error:
            if error.reason != "server":
                raise
            await asyncio.sleep(error.retry_after or 0.5)
            return await self._call(question, abilities, more)

    async def _call(
        self, question: str, abilities: Abilities, more: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        body: dict[str, Any] = {**self._body(question, abilities), **more}
        await self.session.reserve(Usage(prompt=_MOST_PROMPT, completion=self.limit))
        try:
            value, _ = await self.connection.post(PATH, body)
        except RejectedError:
            self.session.settle(Usage())
            raise
        except RetryableError as error:
            if error.reason != "network":
                self.session.settle(Usage())
            raise
        self.session.settle(read_usage(value))
        if not first_choice(value):
            raise FatalError(
                f"{self.connection.settings.address} answers JSON, but no chat completion. Check "
                "llm.base_url; it usually ends in /v1."
            )
        return value

    def _body(self, question: str, abilities: Abilities) -> dict[str, Any]:
        settings = self.connection.settings
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [{"role": "user", "content": question}],
            abilities.limit_key: self.limit,
        }
        if abilities.temperature:
            body["temperature"] = 0.0
        if abilities.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": abilities.top_logprobs}
        if settings.reasoning_effort is not None:
            body["reasoning_effort"] = settings.reasoning_effort
        if settings.service_tier is not None:
            body["service_tier"] = settings.service_tier
        return body | settings.extra_body

    def _lesson(self, abilities: Abilities, error: RejectedError) -> Abilities:
        """Return the abilities without what the refusal names; what names nothing is final."""
        said, model = error.message, self.connection.settings.model
        if self._too_short(error):
            return abilities
        if "logprobs" in said and abilities.top_logprobs:
            return self._fewer_logprobs(abilities, said)
        if "temperature" in said and abilities.temperature:
            self.session.say(f"{model} takes no temperature; it is left out.")
            return replace(abilities, temperature=False)
        if abilities.limit_key in said and abilities.limit_key != "max_tokens":
            return replace(abilities, limit_key="max_tokens")
        raise FatalError(f"{self.connection.settings.address}: {said}") from error

    def _fewer_logprobs(self, abilities: Abilities, said: str) -> Abilities:
        fewer = 5 if "top_logprobs" in said and abilities.top_logprobs > 5 else 0
        if not fewer:
            self.session.say(
                f"{self.connection.settings.model} gives no log-probabilities, so the run will "
                "have no probabilities."
            )
        return replace(abilities, top_logprobs=fewer)

    def _too_short(self, error: RejectedError) -> bool:
        """Raise the limit where a reasoning model could not even finish thinking."""
        if "limit was reached" not in error.message or self.limit >= _WITH_REASONING:
            return False
        self.limit = _WITH_REASONING
        return True

    def _seen(self, abilities: Abilities, value: Mapping[str, Any]) -> Abilities:
        """Correct what the server accepted and then ignored."""
        choice, usage = first_choice(value), read_usage(value)
        if usage and usage.completion > self.limit + 1 and abilities.limit_key != "max_tokens":
            abilities = replace(abilities, limit_key="max_tokens")
        content = (choice.get("message") or {}).get("content")
        if content and not (choice.get("logprobs") or {}).get("content"):
            abilities = replace(abilities, top_logprobs=0)
        return abilities
