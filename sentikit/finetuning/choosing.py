"""Finds the fine-tuner of an LLM backend."""

from __future__ import annotations

import importlib
from typing import Any

from sentikit.errors import InputError, SentikitError
from sentikit.finetuning.fine_tuner import FineTuner
from sentikit.llm.backend import LLMBackend
from sentikit.registry import Registry

_HOOK = "register_llm_backends"


def fine_tuner_class(provider: Any, registry: Registry) -> type[FineTuner]:
    """Return the class that teaches models for the backend called `provider`.

    Raises:
        InputError: there is no such backend, or it cannot teach.
        SentikitError: its plugin is broken.
    """
    if not isinstance(provider, str):
        raise InputError(f"a name is needed. Known: {', '.join(providers(registry))}.")
    backend: type[LLMBackend] = registry.load(_HOOK, provider)
    chosen = fine_tuner_of(backend)
    if chosen is None:
        raise InputError(
            f"the LLM backend {provider!r} fine-tunes nothing. Those that do: "
            f"{', '.join(providers(registry))}."
        )
    return chosen


def fine_tuner_of(backend: type[LLMBackend]) -> type[FineTuner] | None:
    """Return what a backend names as its fine-tuner, imported.

    Raises:
        SentikitError: it cannot be imported, or is no ``FineTuner``.
    """
    named: Any = backend.fine_tuner
    if isinstance(named, str):
        named = _imported(named, backend.__name__)
    if named is None or (isinstance(named, type) and issubclass(named, FineTuner)):
        return named
    raise SentikitError(
        f"{backend.__name__}.fine_tuner must be a subclass of FineTuner or its place as "
        f"'package.module:Class', not {named!r}. Repair its plugin."
    )


def providers(registry: Registry) -> list[str]:
    """Return the names of the backends that can teach; those that are broken are left out."""
    found = []
    for name in registry.names(_HOOK):
        try:
            backend: type[LLMBackend] = registry.load(_HOOK, name)
        except SentikitError:
            continue
        if backend.fine_tuner is not None:
            found.append(name)
    return found


def _imported(place: str, owner: str) -> Any:
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SentikitError(
            f"The fine-tuner of {owner} cannot be loaded from {place!r}: {error}. Repair its "
            "plugin."
        ) from error
