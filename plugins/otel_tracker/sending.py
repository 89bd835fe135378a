"""Background sending of spans by OTLP over HTTP, with a check of delivery."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from openinference.semconv.resource import ResourceAttributes
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

_SCOPE = "sentikit"
_NANOSECONDS = 10**9


class SpanSender:
    """A sender of finished spans; call `send` from one thread, and `close` at the end.

    Headers, time limits, compression and the queue's size are those of OpenTelemetry's variables
    (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).

    Args:
        address: where spans go, with its path; None for OpenTelemetry's variables, or the local
            machine.
        project: the project in Phoenix and Arize.
    """

    def __init__(self, address: str | None, project: str) -> None:
        self._complaints = _Complaints()
        self._exporter = _WatchedExporter(OTLPSpanExporter(endpoint=address))
        resource = Resource.create({SERVICE_NAME: _SCOPE, ResourceAttributes.PROJECT_NAME: project})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer(_SCOPE)

    def send(
        self, name: str, began: float, seconds: float, attributes: Mapping[str, Any], error: str
    ) -> None:
        """Queue a span.

        Args:
            name: of the span.
            began: start, in seconds since the epoch.
            seconds: duration.
            attributes: in OpenInference's terms.
            error: the reason of a failure, or "".

        Raises:
            ConnectionError: earlier spans did not arrive; queued spans are dropped.
        """
        self._check()
        start = round(began * _NANOSECONDS)
        span = self._tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, start_time=start
        )
        span.set_status(Status(StatusCode.ERROR, error) if error else Status(StatusCode.OK))
        span.end(start + round(seconds * _NANOSECONDS))

    def close(self) -> None:
        """Send the queued spans.

        Raises:
            ConnectionError: spans did not arrive.
        """
        self._provider.shutdown()
        self._complaints.close()
        if self._exporter.failed:
            raise ConnectionError(self._complaint())

    def _check(self) -> None:
        if self._exporter.failed:
            self.close()

    def _complaint(self) -> str:
        return (
            f"At least {self._exporter.failed:,} spans did not reach the collector "
            f"({self._complaints.first}) Is it running? Check OTEL_EXPORTER_OTLP_ENDPOINT, or the "
            "tracker's endpoint."
        )


class _WatchedExporter(SpanExporter):
    """An exporter that counts undelivered spans and stops after the first one."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        if not self.failed:
            result = self._exporter.export(spans)
        if result is SpanExportResult.FAILURE:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _Complaints(logging.Handler):
    """A log handler that keeps the SDK's first message instead of printing it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""
        self._logger = logging.getLogger("opentelemetry")
        self._propagated, self._logger.propagate = self._logger.propagate, False
        self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()

    def close(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated
        super().close()
