"""What a server can do, for ``sentikit doctor``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import openai

from sentikit import BackendError, FatalError, LLMBackend, RetryableError, Usage

from .abilities import Abilities
from .client import Connection
from .guarantees import FOREIGN, LADDER
from .probing import Probe
from .settings import OpenAISettings

_MOST_LISTED = 100


class _Memory:
    """A session that keeps what is said and budgets nothing."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    async def reserve(self, most: Usage) -> None:
        return

    def settle(self, used: Usage | None) -> None:
        return

    def recall(self, key: str) -> Any:
        return None

    def remember(self, key: str, value: Any) -> None:
        return


async def examine(connection: Connection) -> Mapping[str, Any]:
    """Return the server's models and, for the model asked about, what holds.

    Raises:
        FatalError: there is no such server or model.
        RetryableError: it cannot be reached.
    """
    models = await _models(connection)
    report: dict[str, Any] = {"address": connection.settings.address, "models": models}
    settings = _of_only_model(connection.settings, models)
    if settings is None and models is None:
        raise FatalError(
            f"{connection.settings.address} lists no models. Is it an OpenAI-compatible server? "
            "The address usually ends in /v1; or name a model with --model."
        )
    if settings is None:
        report["remarks"] = ["Name one of its models with --model to see what it can do."]
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
    report["remarks"] = memory.said
    return report


def _of_only_model(
    settings: OpenAISettings, models: list[dict[str, Any]] | None
) -> OpenAISettings | None:
    """Return the settings with a model: the one asked for, or the only one there is."""
    if settings.model != LLMBackend.any_model:
        return settings
    if models is not None and len(models) == 1:
        return settings.model_copy(update={"model": models[0]["id"]})
    return None


async def _guarantees(
    connection: Connection, probe: Probe, abilities: Abilities
) -> dict[str, bool]:
    found = {}
    for guarantee in LADDER:
        if guarantee.name == "text" or (
            guarantee.name in FOREIGN and connection.settings.is_openai
        ):
            continue
        found[guarantee.name] = await probe.holds(guarantee, abilities) is not None
    return found


async def _models(connection: Connection) -> list[dict[str, Any]] | None:
    """Return the models a server lists, with the day each ends, or None where it lists none."""
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
