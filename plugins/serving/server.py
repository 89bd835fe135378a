"""The HTTP application: TEI's routes over any classifier, with limits and metrics."""

from __future__ import annotations

import asyncio
import hmac
import html
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from sentikit import Classifier, InputError, Prediction, SentikitError
from sentikit.extension import without_secrets

from .batching import Batcher, Classify, QueueFullError
from .schemas import ClassifierModel, ErrorResponse, Info, ModelType, PredictRequest, Score

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Turns the body of a request for predictions into the response.
Answer = Callable[[bytes], Coroutine[Any, Any, Response]]

#: Seconds after which a request is watched for a client that hangs up; most are answered sooner.
_UNWATCHED = 0.5
#: Lone surrogates, which are valid in JSON but not in text.
_SURROGATE = re.compile("[\ud800-\udfff]")
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        key: clients send it as ``Authorization: Bearer KEY``; None: no key.
        hosts: names by which clients may call the server; None accepts all.
        body: most bytes of a request.
        texts: most texts of a request.
        batch: most texts classified together.
        waiting: most texts that may wait.
        workers: batches classified at the same time.
    """

    key: str | None = None
    hosts: frozenset[str] | None = None
    body: int = 2_000_000
    texts: int = 1024
    batch: int = 256
    waiting: int = 4096
    workers: int = 1


class BudgetError(SentikitError):
    """The day's budget is spent.

    Attributes:
        seconds: until the next day.
    """

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class Metrics:
    """Metrics for Prometheus, without texts."""

    def __init__(self, waiting: Callable[[], int], probing: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sentikit_requests",
            "requests by path and status",
            ["path", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "sentikit_request_seconds",
            "seconds from request to response",
            ["path"],
            registry=self.registry,
        )
        self.batches = Histogram(
            "sentikit_batch_texts",
            "texts classified together",
            buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
            registry=self.registry,
        )
        self.texts = Counter(
            "sentikit_texts",
            "texts by predicted label and member",
            ["label", "answered_by"],
            registry=self.registry,
        )
        self.cost = Counter("sentikit_cost_usd", "USD paid for answers", registry=self.registry)
        Gauge(
            "sentikit_probing_cost_usd", "USD paid for probing servers", registry=self.registry
        ).set_function(probing)
        Gauge("sentikit_waiting_texts", "texts that wait", registry=self.registry).set_function(
            waiting
        )

    def count(self, predictions: Sequence[Prediction]) -> None:
        """Count the predictions of one request."""
        for prediction in predictions:
            self.texts.labels(prediction.label or "", prediction.answered_by or "").inc()
            self.cost.inc(prediction.paid or 0.0)


def build_app(
    classifier: Classifier,
    name: str,
    classify: Classify,
    limits: Limits,
    probing: Callable[[], float] = lambda: 0.0,
) -> ASGIApp:
    """Build the application.

    Args:
        classifier: the served classifier.
        name: of the classifier, for ``/info``.
        classify: labels texts; called in worker threads.
        limits: of requests.
        probing: returns the USD spent on probing the providers' servers.
    """
    observed: list[Callable[[int], None]] = []
    batcher = Batcher(
        classify,
        limits.batch,
        limits.waiting,
        limits.workers,
        lambda size: observed[0](size),
        own=(BudgetError,),
    )
    metrics = Metrics(lambda: batcher.waiting, probing)
    observed.append(metrics.batches.observe)
    app = FastAPI(
        title="sentikit",
        version=version("sentikit"),
        description=f"{name}: {', '.join(classifier.labels)}",
        docs_url=None,
        redoc_url=None,
        lifespan=_closing(batcher),
    )
    answer = _answering(batcher, metrics, classifier.labels, limits)
    _add_predict(app, answer)
    _add_pages(app, metrics, _info(classifier, name, limits))
    app.add_exception_handler(Exception, _unexpected)
    app.add_exception_handler(HTTPException, _refused)
    return Gate(app, answer, limits, metrics)


def _closing(batcher: Batcher) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await batcher.close()

    return lifespan


def _answering(
    batcher: Batcher, metrics: Metrics, labels: tuple[str, ...], limits: Limits
) -> Answer:
    async def answer(body: bytes) -> Response:
        try:
            texts, batch = _texts(body, limits.texts)
            predictions = await _classified(batcher, texts)
        except RefusalError as error:
            return error.response
        metrics.count(predictions)
        rows = [_scores(prediction, labels) for prediction in predictions]
        content = json.dumps(rows if batch else rows[0], ensure_ascii=False)
        return Response(content, media_type="application/json", headers=_headers(predictions))

    return answer


def _add_predict(app: FastAPI, answer: Answer) -> None:
    """Describe the routes that the gate answers without FastAPI."""

    async def predict(request: Request) -> Response:
        return await answer(await request.body())

    documented = {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": PredictRequest.model_json_schema()}},
        }
    }
    failures: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorResponse} for status in (400, 401, 413, 415, 421, 422, 424, 429)
    }
    for path in ("/predict", "/"):
        app.add_api_route(
            path,
            predict,
            methods=["POST"],
            summary="Classify a text or a batch of texts",
            response_model=list[Score] | list[list[Score]],
            responses=failures,
            openapi_extra=documented,
            operation_id="predict" if path == "/predict" else "predict_at_root",
        )


def _add_pages(app: FastAPI, metrics: Metrics, info: Info) -> None:
    async def health() -> Response:
        return Response(status_code=200)

    async def show_info() -> Info:
        return info

    async def show_metrics() -> Response:
        return Response(
            generate_latest(metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def docs() -> Response:
        return Response(_page(app.openapi()), media_type="text/html", headers=_PAGE_HEADERS)

    app.add_api_route(
        "/health", health, summary="Whether the server is up", response_class=Response
    )
    app.add_api_route("/info", show_info, response_model=Info, summary="The classifier served")
    app.add_api_route(
        "/metrics", show_metrics, summary="Metrics for Prometheus", response_class=Response
    )
    app.add_api_route("/docs", docs, include_in_schema=False)


def _info(classifier: Classifier, name: str, limits: Limits) -> Info:
    labels = classifier.labels
    return Info(
        model_id=name,
        served_model_name=name,
        model_dtype={"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(
            getattr(classifier, "precision", ""), "float32"
        ),
        model_type=ModelType(
            classifier=ClassifierModel(
                id2label={str(number): label for number, label in enumerate(labels)},
                label2id={label: number for number, label in enumerate(labels)},
            )
        ),
        max_concurrent_requests=limits.waiting,
        max_input_length=int(getattr(classifier, "max_length", 0)),
        max_batch_tokens=limits.batch * int(getattr(classifier, "max_length", 0) or 512),
        max_batch_requests=limits.batch,
        max_client_batch_size=limits.texts,
        version=version("sentikit"),
    )


class RefusalError(Exception):
    """A request is answered with an error.

    Attributes:
        response: the error response.
    """

    def __init__(
        self, status: int, message: str, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.response = _error(status, message, kind, headers)


def _texts(body: bytes, most: int) -> tuple[list[str], bool]:
    """Return the texts of a request, and whether it is a batch.

    Raises:
        RefusalError: the body is malformed, or a text cannot be classified.
    """
    try:
        request = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise RefusalError(422, _first_problem(error), "Validation") from error
    if request.raw_scores:
        message = "raw_scores is not offered: scores are probabilities."
        raise RefusalError(422, message, "Validation")
    inputs = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    if not inputs:
        raise RefusalError(400, "The batch is empty.", "Empty")
    batch = not isinstance(inputs[0], str)
    texts = [text if isinstance(text, str) else text[0] for text in inputs]
    if len(texts) > most:
        message = f"The batch has {len(texts)} texts; at most {most} are accepted."
        raise RefusalError(413, message, "Validation")
    for place, text in enumerate(texts):
        if not text.strip():
            raise RefusalError(400, f"Text {place} (from 0) is empty.", "Empty")
        if not text.isascii() and _SURROGATE.search(text):
            message = f"Text {place} (from 0) is not valid Unicode: it holds half a surrogate pair."
            raise RefusalError(422, message, "Tokenizer")
    return texts, batch


async def _classified(batcher: Batcher, texts: list[str]) -> list[Prediction]:
    """Return the predictions of a request's texts.

    Raises:
        RefusalError: too many texts wait, the day's budget is spent, or the classifier fails.
    """
    try:
        predictions = await batcher.classify(texts)
    except QueueFullError as error:
        message = "The model is overloaded: too many texts wait. Try again later."
        raise RefusalError(429, message, "Overloaded", {"retry-after": "1"}) from error
    except BudgetError as error:
        headers = {"retry-after": str(error.seconds)}
        raise RefusalError(429, error.message, "Overloaded", headers) from error
    except InputError as error:
        raise RefusalError(422, without_secrets(error.message, {}), "Validation") from error
    except SentikitError as error:
        raise RefusalError(424, without_secrets(error.message, {}), "Backend") from error
    # A vote has a label even if one of its members failed.
    failed = next((p.error for p in predictions if p.label is None and p.error is not None), None)
    if failed is not None:
        raise RefusalError(424, without_secrets(failed, {}), "Backend")
    return predictions


def _first_problem(error: ValidationError) -> str:
    """Return the first problem, without quoting the request."""
    details = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in details["loc"] if not str(part).startswith("list["))
    advice = 'Send {"inputs": "text"} or {"inputs": [["text"], ["text"]]}.'
    return f"{place or 'The body'}: {details['msg']}. {advice}"


def _scores(prediction: Prediction, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return TEI's scores, highest first; 1.0 for the label without probabilities."""
    known = prediction.probabilities
    if known is None:
        sure = prediction.certainty
        return [{"score": 1.0 if sure is None else sure, "label": prediction.label or ""}]
    ordered = sorted(labels, key=lambda label: (label != prediction.label, -known[label]))
    return [{"score": known[label], "label": label} for label in ordered]


def _headers(predictions: Sequence[Prediction]) -> dict[str, str]:
    """Return headers with the members that answered and their cost."""
    members = dict.fromkeys(p.answered_by for p in predictions if p.answered_by)
    headers = {}
    if members:
        named = ", ".join(re.sub(r"[^\x20-\x7e]", "?", str(member)) for member in members)
        headers["x-answered-by"] = named
    costs = [prediction.cost for prediction in predictions]
    known = [cost for cost in costs if cost is not None]
    headers["x-cost-usd"] = "unknown" if len(known) < len(costs) else f"{sum(known):.9f}"
    if any(prediction.probabilities is None for prediction in predictions):
        headers["x-scores"] = "label-only"
    return headers


def _error(status: int, message: str, kind: str, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps({"error": message, "error_type": kind})
    return Response(content, status, headers, media_type="application/json")


async def _unexpected(request: Request, error: Exception) -> Response:
    return _failure(error)


def _failure(error: Exception) -> Response:
    return _error(424, f"The classifier failed: {type(error).__name__}.", "Backend")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    return _error(error.status_code, f"{error.detail}.", "Validation", headers)


def _page(schema: dict[str, Any]) -> str:
    """Return the API's page, without scripts or external resources."""
    rows = "".join(
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td>"
        f"<td>{html.escape(operation.get('summary', ''))}</td></tr>"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    )
    example = html.escape(
        "curl http://HOST:PORT/predict -H 'content-type: application/json' "
        '-d \'{"inputs": "I love it"}\''
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><title>sentikit serve</title>"
        "<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui;margin:2rem auto;"
        "max-width:50rem;padding:0 1rem}td{padding:.2rem 1rem .2rem 0;vertical-align:top}"
        "pre{overflow:auto}</style>"
        f"<h1>sentikit serve</h1><p>{html.escape(schema['info']['description'])}</p>"
        f"<table>{rows}</table><pre>{example}</pre>"
        "<p><a href=/openapi.json>openapi.json</a></p>"
    )


class Gate:
    """The application's front: refuses requests, answers those for predictions, passes on the rest.

    Refused are requests without the key, with other hosts or with large bodies. FastAPI's routing
    would take as much CPU as all else that a request for predictions needs beside its batch.
    """

    def __init__(self, app: ASGIApp, answer: Answer, limits: Limits, metrics: Metrics) -> None:
        self._app, self._answer, self._limits, self._metrics = app, answer, limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or pass it on, and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), [499]  # Unless a response begins: the client hung up.

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            await self._respond(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in _PATHS else "other"
            self._metrics.requests.labels(path, str(status[0])).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - began)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = self._refusal(scope) or await self._body(scope, receive)
        if isinstance(body, Response):
            await body(scope, receive, send)
        elif not _asks_for_predictions(scope):
            await self._app(scope, _replayed(body, receive), send)
        else:
            try:
                response = await _unless_gone(self._answer(body), receive)
            except Exception as error:
                await _failure(error)(scope, receive, send)
                raise  # For the server's log.
            if response is not None:
                await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {key.lower(): value for key, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1").lower()
        hosts = self._limits.hosts
        if hosts is not None and re.sub(r":\d+$", "", host) not in hosts:
            return _error(421, "This server is not known by that name.", "Validation")
        if self._limits.key is not None and scope["path"] != "/health":
            wanted = f"Bearer {self._limits.key}".encode()
            if not hmac.compare_digest(headers.get(b"authorization", b""), wanted):
                advice = "Send Authorization: Bearer KEY."
                return _error(401, advice, "Validation", {"www-authenticate": "Bearer"})
        kind = headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip().lower()
        # Browsers send other content types to other origins without a preflight request.
        if _asks_for_predictions(scope) and kind != "application/json":
            return _error(415, "Send content-type: application/json.", "Validation")
        return None

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Response:
        most, received = self._limits.body, bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return _error(400, "The client hung up.", "Validation")
            received += message.get("body", b"")
            if len(received) > most:
                return _error(413, f"The request is larger than {most:,} bytes.", "Validation")
            if not message.get("more_body"):
                return bytes(received)


_PATHS = {"/", "/predict", "/info", "/health", "/metrics", "/docs", "/openapi.json"}


async def _unless_gone(answer: Coroutine[Any, Any, Response], receive: Receive) -> Response | None:
    """Return the answer, or None and cancel it if the client hangs up."""
    answering = asyncio.ensure_future(answer)
    try:
        done, _ = await asyncio.wait({answering}, timeout=_UNWATCHED)
        if not done:
            gone = asyncio.ensure_future(_hung_up(receive))
            try:
                await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
    finally:
        # Also if the server stops and cancels the request.
        cancelled = answering.cancel()
    if cancelled:
        await asyncio.wait({answering})
        return None
    return answering.result()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _asks_for_predictions(scope: Scope) -> bool:
    return scope["method"] == "POST" and scope["path"] in ("/", "/predict")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that replays the body, then continues with the real one."""
    given: list[bool] = []

    async def replay() -> Message:
        if not given:
            given.append(True)
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
