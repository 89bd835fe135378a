"""A local HTTP server that speaks the chat protocol, with faults on demand.

Run by itself: ``python tests/llm_server.py PORT [SETTINGS_AS_JSON]``; it prints ``ready`` and
answers until it is killed. ``GET /state`` says what it has seen, ``POST /settings`` changes it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from aiohttp import web

#: Words that decide a review's label; a review without them is neutral.
_WORDS = {"positive": ("love", "great", "good"), "negative": ("hate", "awful", "bad")}
_HTML = "<html><head><title>Welcome</title></head><body>It works!</body></html>"


@dataclass(frozen=True)
class Behaviour:
    """How the server answers.

    Attributes:
        seconds: before each answer.
        slots: answers so many calls at a time while others wait, or 0 for all at once.
        key: the only key it takes, or "" for any.
        model: the only model it has, or "" for any.
        faults: number of the call (from 0, over all calls) to a fault, once.
        fault_words: a word in the last message to a fault, always.
        enforces: the guarantees it enforces: json_schema, choice, grammar, tool.
        fails_on: the guarantees it answers 500 to.
        refuses: keys of a body it answers 400 to.
        logprobs: whether it gives log-probabilities.
        text: what it answers where nothing is enforced; "" for the label.
        ignores_limit: whether it answers at length whatever the limit.
        requests_a_second: more are answered with 429, or 0.
        rate_headers: whether answers carry ``x-ratelimit-*``.
        hidden_tokens: billed with every prompt, beside its own.
        usage: "" or how it deviates from OpenAI's: none (the key is missing), null, or text.
        tier: the service tier it says it served.
        batch: "" or what goes wrong with batches: lost, failed, expired, never, or torn
            (expired, and its second file arrives at the second try).
        retry_after: seconds that faults named by a status ask to wait, or "".
    """

    seconds: float = 0.0
    slots: int = 0
    key: str = ""
    model: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    fault_words: dict[str, str] = field(default_factory=dict)
    enforces: tuple[str, ...] = ("json_schema", "tool")
    fails_on: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    logprobs: bool = True
    text: str = ""
    ignores_limit: bool = False
    requests_a_second: float = 0.0
    rate_headers: bool = False
    hidden_tokens: int = 0
    usage: str = ""
    tier: str = ""
    batch: str = ""
    retry_after: str = ""


class LLMServer:
    """The server's state and handlers."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.calls = 0
        self.answered: Counter[str] = Counter()
        self.arrivals: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.statuses: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.billed = {"prompt": 0, "completion": 0}
        self.headers: dict[str, str] = {}
        self.query: dict[str, str] = {}
        self._window: list[float] = []
        self._slots = asyncio.Semaphore(behaviour.slots or 10**6)
        self.batches = BatchService(self)

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/state", self.state)
        app.router.add_post("/settings", self.change)
        app.router.add_get("/", self.page)
        app.router.add_post("/html/chat/completions", self.page)
        self.batches.add_routes(app)
        return app

    async def page(self, request: web.Request) -> web.Response:
        """Answer as a web server other than an LLM server does."""
        return web.Response(text=_HTML, content_type="text/html")

    async def models(self, request: web.Request) -> web.Response:
        """List the model."""
        entry = {"id": self.behaviour.model or "any", "object": "model", "created": 0}
        return web.json_response({"object": "list", "data": [entry]})

    async def state(self, request: web.Request) -> web.Response:
        """Return what the server has received."""
        return web.json_response(
            {
                "calls": self.calls,
                "answered": dict(self.answered),
                "most_in_flight": self.most_in_flight,
                "statuses": dict(self.statuses),
                "billed": self.billed,
                "batches": len(self.batches.batches),
            }
        )

    async def change(self, request: web.Request) -> web.Response:
        """Change the behaviour."""
        self.behaviour = replace(self.behaviour, **await request.json())
        return web.json_response(asdict(self.behaviour))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer, or fail as `Behaviour` says."""
        number, self.calls = self.calls, self.calls + 1
        self.arrivals.append(time.monotonic())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = await request.json()
            self.headers, self.query = dict(request.headers), dict(request.query)
            if len(self.bodies) < 10_000:
                self.bodies.append(body)
            response = await self._respond(number, body, request)
            self.statuses[str(response.status)] += 1
            return response
        finally:
            self.in_flight -= 1

    async def _respond(
        self, number: int, body: dict[str, Any], request: web.Request
    ) -> web.StreamResponse:
        b = self.behaviour
        if b.key and request.headers.get("Authorization") != f"Bearer {b.key}":
            sent = request.headers.get("Authorization", "")
            return _error(401, f"Incorrect API key provided: {sent}.", "invalid_api_key")
        if b.model and body.get("model") != b.model:
            name = body.get("model")
            return _error(404, f"The model `{name}` does not exist.", "model_not_found")
        refused = [name for name in b.refuses if name in body]
        if refused:
            return _error(400, f"Unsupported parameter: '{refused[0]}'.", "unsupported_parameter")
        if _guarantee(body) in b.fails_on:
            return _error(500, "internal error", "server_error")
        fault = b.faults.get(str(number)) or self._fault_by_word(body)
        if fault is None and self._over_rate():
            fault = "429"
        async with self._slots:
            await asyncio.sleep(b.seconds)
        if fault:
            found = await self._fault(fault, body, request)
            if found is not None:
                return found
        return self._answer(body)

    def _fault_by_word(self, body: dict[str, Any]) -> str | None:
        prompt = body["messages"][-1]["content"]
        return next((f for word, f in self.behaviour.fault_words.items() if word in prompt), None)

    def _over_rate(self) -> bool:
        rate = self.behaviour.requests_a_second
        if not rate:
            return False
        now = time.monotonic()
        self._window = [moment for moment in self._window if now - moment < 1.0]
        if len(self._window) >= rate:
            return True
        self._window.append(now)
        return False

    async def _fault(
        self, fault: str, body: dict[str, Any], request: web.Request
    ) -> web.StreamResponse | None:
        """Return the faulty response; None lets the answer through (after a delay)."""
        name, _, detail = fault.partition(":")
        if name == "429":
            headers = {"Retry-After": detail or "1"} if detail != "none" else {}
            return _error(429, "Rate limit reached.", "rate_limit_exceeded", headers)
        if name == "quota":
            return _error(429, "You exceeded your current quota.", "insufficient_quota")
        if name == "html":
            return web.Response(text=_HTML, content_type="text/html")
        if name == "slow":
            await asyncio.sleep(float(detail))
            return None
        if name == "truncate":
            return await self._half(body, request)
        if name == "drop":
            request.transport.close()
            return web.Response(status=500)
        if name == "say":
            return self._answer(body, detail)
        asked = self.behaviour.retry_after
        headers = {"Retry-After": asked} if asked else {}
        return _error(int(name), detail or "made to fail", "made_up", headers)

    async def _half(self, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        whole = self._answer(body).body
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(whole)
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
        request.transport.close()
        return response

    def _answer(self, body: dict[str, Any], fixed: str | None = None) -> web.Response:
        b = self.behaviour
        guarantee = _guarantee(body)
        labels = _labels(body, guarantee)
        enforced = guarantee if guarantee in b.enforces and fixed is None else ""
        if fixed is None and not enforced:
            fixed = _greeting(body) or b.text or None
        text = _label(body["messages"], labels if enforced else ()) if fixed is None else fixed
        message, tokens = _message(text, enforced, _wants_rationale(body))
        prompt = sum(len(m["content"].split()) for m in body["messages"]) + 8 + b.hidden_tokens
        completion = 60 if b.ignores_limit else max(1, len(tokens))
        self.billed["prompt"] += prompt
        self.billed["completion"] += completion
        self.answered[_fingerprint(body)] += 1
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        if b.logprobs and body.get("logprobs") and tokens:
            choice["logprobs"] = {"content": _logprobs(tokens, labels), "refusal": None}
        value = {
            "id": f"chatcmpl-{self.calls}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [choice],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
        }
        if b.usage == "none":
            del value["usage"]
        elif b.usage:
            value["usage"] = None if b.usage == "null" else "n/a"
        if b.tier:
            value["service_tier"] = b.tier
        return web.json_response(value, headers=self._rate_headers())

    def _rate_headers(self) -> dict[str, str]:
        if not self.behaviour.rate_headers:
            return {}
        left = max(0, int(self.behaviour.requests_a_second) - len(self._window))
        return {
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-remaining-tokens": "100000",
            "x-ratelimit-reset-tokens": "6ms",
        }


class BatchService:
    """Files and batches; a batch is done at the second look, as `Behaviour.batch` says."""

    def __init__(self, server: LLMServer) -> None:
        self._server = server
        self._files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._looks: Counter[str] = Counter()
        self._sent = 0

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The requests of all batches."""
        return [body for size in self.sizes() for body in size]

    def sizes(self) -> list[list[dict[str, Any]]]:
        """Return the requests of each batch."""
        inputs = [self._files[batch["input_file_id"]] for batch in self.batches.values()]
        return [[json.loads(line)["body"] for line in text.splitlines()] for text in inputs]

    def add_routes(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.content)
        app.router.add_post("/v1/batches", self.create)
        app.router.add_get("/v1/batches", self.listed)
        app.router.add_get("/v1/batches/{id}", self.retrieve)

    async def upload(self, request: web.Request) -> web.Response:
        """Keep a file."""
        form = await request.post()
        content = form["file"].file.read()
        number = f"file-{len(self._files)}"
        self._files[number] = content
        value = {
            "id": number,
            "object": "file",
            "bytes": len(content),
            "created_at": 0,
            "filename": "batch.jsonl",
            "purpose": form["purpose"],
            "status": "processed",
        }
        return web.json_response(value)

    async def content(self, request: web.Request) -> web.Response:
        """Return a file."""
        self._sent += 1
        if self._server.behaviour.batch == "torn" and self._sent == 2:
            request.transport.close()
        return web.Response(body=self._files[request.match_info["id"]])

    async def create(self, request: web.Request) -> web.Response:
        """Start a batch."""
        body = await request.json()
        name = f"batch_{len(self.batches)}"
        lines = self._files[body["input_file_id"]].splitlines()
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": body["completion_window"],
            "status": "in_progress",
            "created_at": 0,
            "metadata": body.get("metadata"),
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }
        if self._server.behaviour.batch == "lost":
            # The batch exists, but the client never receives its id.
            request.transport.close()
        return web.json_response(self.batches[name])

    async def listed(self, request: web.Request) -> web.Response:
        """List all batches, the latest first."""
        data = list(reversed(self.batches.values()))
        return web.json_response({"object": "list", "data": data, "has_more": False})

    async def retrieve(self, request: web.Request) -> web.Response:
        """Say how far a batch is; at the second look it is done."""
        name = request.match_info["id"]
        batch = self.batches[name]
        self._looks[name] += 1
        behaviour = self._server.behaviour
        if behaviour.batch == "failed":
            batch["status"] = "failed"
            batch["errors"] = {"object": "list", "data": [{"message": "too many tokens."}]}
        elif behaviour.batch != "never" and self._looks[name] > 1:
            self._finish(batch)
        return web.json_response(batch)

    def _finish(self, batch: dict[str, Any]) -> None:
        if batch["status"] != "in_progress":
            return
        answered, failed = [], []
        expired = self._server.behaviour.batch in ("expired", "torn")
        for number, text in enumerate(self._files[batch["input_file_id"]].splitlines()):
            line = json.loads(text)
            if expired and number % 2:
                error = {"code": "batch_expired", "message": "This request expired."}
                failed.append({"custom_id": line["custom_id"], "response": None, "error": error})
                continue
            body = json.loads(self._server._answer(line["body"]).body)
            response = {"status_code": 200, "request_id": "r", "body": body}
            answered.append({"custom_id": line["custom_id"], "response": response, "error": None})
        # Results come in any order.
        for kind, rows in (("output", answered[::-1]), ("error", failed)):
            if rows:
                name = f"file-{len(self._files)}"
                self._files[name] = "\n".join(json.dumps(row) for row in rows).encode()
                batch[f"{kind}_file_id"] = name
        batch["status"] = "expired" if expired else "completed"
        counts = batch["request_counts"]
        counts["completed"], counts["failed"] = len(answered), len(failed)


def _error(
    status: int, message: str, code: str, headers: dict[str, str] | None = None
) -> web.Response:
    error = {"message": message, "type": code, "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def _guarantee(body: dict[str, Any]) -> str:
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return "json_schema"
    if body.get("structured_outputs"):
        return "choice"
    if "grammar" in body:
        return "grammar"
    return "tool" if "tool_choice" in body else ""


def _labels(body: dict[str, Any], guarantee: str) -> tuple[str, ...]:
    if guarantee == "json_schema":
        schema = body["response_format"]["json_schema"]["schema"]
        return tuple(schema["properties"]["label"]["enum"])
    if guarantee == "choice":
        asked = body["structured_outputs"]
        return tuple(asked.get("choice") or asked["json"]["properties"]["label"]["enum"])
    if guarantee == "grammar":
        rules = dict(line.split(" ::= ", 1) for line in body["grammar"].splitlines())
        parts = rules.get("label", rules["root"]).split(" | ")
        return tuple(json.loads(part).strip('"') for part in parts)
    if guarantee == "tool":
        schema = body["tools"][0]["function"]["parameters"]
        return tuple(schema["properties"]["label"]["enum"])
    return ()


def _wants_rationale(body: dict[str, Any]) -> bool:
    """Return whether the enforced format has a rationale before the label."""
    schemas = [
        ((body.get("response_format") or {}).get("json_schema") or {}).get("schema"),
        (body.get("structured_outputs") or {}).get("json"),
        *(tool["function"]["parameters"] for tool in body.get("tools") or ()),
    ]
    fields = [list(schema["properties"]) for schema in schemas if schema]
    return "rationale" in body.get("grammar", "") or ["rationale", "label"] in fields


def _label(messages: list[dict[str, str]], labels: tuple[str, ...]) -> str:
    asked = next(m["content"] for m in reversed(messages) if m["role"] == "user")
    if len(messages) > 2 and messages[-2]["role"] == "assistant":
        asked = messages[-3]["content"]
    review = asked.rsplit("\nReview:", 1)[-1].split("\nClassification:")[0].lower()
    for label, words in _WORDS.items():
        if any(word in review for word in words) and (not labels or label in labels):
            return label
    return "neutral" if not labels or "neutral" in labels else labels[0]


def _greeting(body: dict[str, Any]) -> str:
    asked = body["messages"][-1]["content"]
    if asked.startswith("Greet me"):
        return "Hello!"
    return "one two three four five six seven eight" if asked.startswith("Count from") else ""


def _message(text: str, enforced: str, rationale: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the message and its tokens."""
    head, tail = text[:3], text[3:]
    reason = ["rationale", '":"', f"It sounds {text}.", '","'] if rationale else []
    if enforced == "tool":
        fields = {"rationale": f"It sounds {text}."} if rationale else {}
        function = {"name": "classify", "arguments": json.dumps({**fields, "label": text})}
        call = {"id": "call_1", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}, []
    if enforced == "json_schema" or (enforced and rationale):
        tokens = ['{"', *reason, "label", '":"', head, tail, '"}']
        return {"role": "assistant", "content": "".join(tokens), "refusal": None}, tokens
    tokens = [part for part in (head, tail) if part]
    return {"role": "assistant", "content": text, "refusal": None}, tokens


def _logprobs(tokens: list[str], labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Give the answer's token 0.8 where labels diverge; the others share the rest."""
    entries = []
    heads = {label[:3] for label in labels or ("negative", "neutral", "positive")}
    for token in tokens:
        top = [(token, -0.2231)]
        if token in heads:
            others = sorted(heads - {token})
            top += [(other, -2.3026) for other in others]
        listed = [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in top]
        entries.append({**listed[0], "top_logprobs": listed})
    return entries


def _fingerprint(body: dict[str, Any]) -> str:
    return json.dumps(body["messages"], sort_keys=True)[-200:]


def main(port: int, behaviour: Behaviour) -> None:
    """Serve until killed."""

    async def serve() -> None:
        runner = web.AppRunner(LLMServer(behaviour).application(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        print("ready", site._server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    settings = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    main(int(sys.argv[1]), Behaviour(**settings))
