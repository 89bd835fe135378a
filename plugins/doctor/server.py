"""Reports on an LLM server, and on prices and end dates of models."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

from sentikit import InputError, SentikitError
from sentikit.extension import (
    LLMBackend,
    default_registry,
    listed_models,
    model_facts,
    validate,
)

_SETTING = "base_url"
#: Advice of backends about recipes, and the same for this command; longest first.
_OPTIONS = {
    f"--set llm.{_SETTING}=…": "--base-url URL.",
    f"llm.{_SETTING}": "--base-url",
    "--set llm.key_variable=NAME": "llm.key_variable in a recipe",
}


def server_report(base_url: str | None, model: str | None) -> dict[str, Any]:
    """Return JSON values about a server, or ``error`` if it cannot be used.

    Args:
        base_url: its address, or None for the backend's own provider.
        model: the model to try, or None for the only one the server has.

    Raises:
        InputError: the address is malformed.
    """
    backend = _backend(base_url, model)
    try:
        report = dict(asyncio.run(_examine(backend)))
    except SentikitError as error:
        return {"address": base_url, "error": _in_own_words(error.message)}
    facts = model_facts(str(report.get("model") or ""), provider=backend.provider)
    report["price_known"] = facts.prices is not None
    warning = facts.lifecycle_warning(date.today())
    if warning:
        report["warnings"] = [*report.get("warnings", []), warning]
    return report


def models_report(base_url: str | None) -> list[dict[str, Any]]:
    """Return JSON values about every model with a known price, and its end date.

    Args:
        base_url: the address of a provider whose models to list too, or None.

    Raises:
        InputError: the user's own file of models cannot be read.
    """
    return [
        {
            "model": facts.name,
            "prompt": facts.prices.prompt if facts.prices else None,
            "cached": facts.prices.cached if facts.prices else None,
            "completion": facts.prices.completion if facts.prices else None,
            "tiers": sorted(facts.prices.tiers) if facts.prices else [],
            "context": facts.context,
            "ends": facts.ends.isoformat() if facts.ends else None,
            "successor": facts.successor or None,
            "source": facts.source,
            "as_of": facts.as_of.isoformat() if facts.as_of else None,
        }
        for facts in listed_models(provider=base_url or "")
    ]


def _in_own_words(message: str) -> str:
    """Replace a recipe's key in a backend's message with the doctor's option."""
    for key, option in _OPTIONS.items():
        message = message.replace(key, option)
    return message


async def _examine(backend: LLMBackend) -> Any:
    try:
        return await backend.examine()
    finally:
        await backend.close()


def _backend(base_url: str | None, model: str | None) -> LLMBackend:
    """Create the first backend that takes an address."""
    registry = default_registry()
    for registration in registry.registrations("register_llm_backends"):
        backend_class = registration.load()
        if _SETTING in backend_class.Settings.model_fields:
            raw = {_SETTING: base_url, "model": model or backend_class.any_model}
            settings, problems = validate(backend_class.Settings, raw)
            if problems:
                raise InputError(f"--base-url: {problems[0].message}")
            backend: LLMBackend = backend_class(settings)
            return backend
    raise InputError("No LLM backend that takes an address is installed.")
