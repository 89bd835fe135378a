"""The tracker ``otel``: LLM calls as OpenTelemetry spans, which Phoenix and Arize show."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_trackers(register: Any) -> None:
    """Register ``otel``."""
    register(
        "otel",
        f"{__name__}.tracker:OtelTracker",
        summary="LLM calls as OpenTelemetry spans, in OpenInference's terms",
    )
