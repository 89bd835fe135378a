"""LLM calls as OpenTelemetry spans."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from sentikit import InputError
from sentikit.extension import (
    ComponentSettings,
    LLMCall,
    TrackedRun,
    Tracker,
    may_hold_a_key,
    parsed_address,
    without_secrets,
)

if TYPE_CHECKING:
    from .sending import SpanSender

_PATH = "/v1/traces"


def _address(url: str | None) -> str | None:
    if url is None:
        return None
    # An address that may contain a key is refused later, without showing it.
    if parsed_address(url) is None and not may_hold_a_key(url):
        raise ValueError("must be an address such as http://localhost:4318")
    return url.rstrip("/").removesuffix(_PATH)


class OtelTracker(Tracker):
    """A tracker that sends LLM calls to any OTLP collector; training runs send nothing."""

    class Settings(ComponentSettings):
        """Settings of ``otel``."""

        endpoint: Annotated[str | None, AfterValidator(_address)] = Field(
            None,
            description="the collector's address; null: OTEL_EXPORTER_OTLP_ENDPOINT, or "
            "http://localhost:4318",
        )
        project: str = Field(
            "sentikit", min_length=1, description="the project Phoenix and Arize show it under"
        )
        texts: bool = Field(
            True, description="send prompts and answers; false: only labels, numbers and times"
        )

    settings: Settings

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        _refuse_secrets(self.settings.endpoint)
        _check_packages()
        self._sender: SpanSender | None = None
        self._session = self._system = ""

    def start(self, run: TrackedRun) -> None:
        """Prepare sending."""
        from .sending import SpanSender

        address = self.settings.endpoint
        self._sender = SpanSender(address and address + _PATH, self.settings.project)
        self._session = run.name
        self._system = str(run.recipe.get("llm", {}).get("backend", ""))

    def call(self, call: LLMCall) -> None:
        """Queue a span."""
        from .spans import call_attributes

        if self._sender is None:
            return
        attributes = call_attributes(call, self._session, self._system, self.settings.texts)
        name = f"chat {call.model}".rstrip()
        self._sender.send(name, call.began, call.seconds, attributes, self._error(call))

    def finish(self, metrics: Mapping[str, Any], status: str) -> None:
        """Send the queued spans."""
        if self._sender is not None:
            self._sender.close()

    def _error(self, call: LLMCall) -> str:
        """Return why a call failed; a server's message may quote the prompt."""
        if self.settings.texts:
            return without_secrets(call.error or "", {})
        return call.reason or ""


def _refuse_secrets(endpoint: str | None) -> None:
    """Refuse keys in what is written into a run, without showing them."""
    if endpoint is not None and may_hold_a_key(endpoint):
        raise InputError(
            "the tracker otel's endpoint contains a user, a password or a query. It is written "
            "into "
            "the run, so give keys by OTEL_EXPORTER_OTLP_HEADERS."
        )


def _check_packages() -> None:
    try:
        for module in ("sending", "spans"):
            importlib.import_module(f"{__package__}.{module}")
    except ImportError as error:
        raise InputError(
            f"the tracker otel needs the package {error.name}. "
            "Install it with: pip install 'sentikit[otel]'"
        ) from error
