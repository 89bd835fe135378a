"""A local receiver of spans: OTLP over HTTP, decoded by the protocol's own types."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.proto", reason="pip install 'sentikit[otel]'")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Span:
    """A span as it arrived.

    Attributes:
        name: the span's name.
        attributes: the span's attributes.
        resource: attributes of the sender.
        seconds: how long it took.
        failed: whether its status is an error.
        message: the status's message.
    """

    name: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    seconds: float
    failed: bool
    message: str


@dataclass
class Received:
    """The received spans and requests.

    Attributes:
        url: the receiver's address.
        spans: in the order of their arrival.
        headers: the last request's headers.
        bodies: the bodies of all requests, decompressed.
        status: the HTTP status of the answers.
    """

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200


@contextlib.contextmanager
def receiving(status: int = 200) -> Iterator[Received]:
    """Receive until the block ends."""
    received = Received(status=status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.headers = dict(self.headers)
            if self.path == "/v1/traces" and received.status == 200:
                received.bodies.append(body)
                received.spans += _spans(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(received.status if self.path == "/v1/traces" else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        received.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for of_resource in request.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    name=span.name,
                    attributes=_values(span.attributes),
                    resource=resource,
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    failed=span.status.code == Status.STATUS_CODE_ERROR,
                    message=span.status.message,
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}
