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

#: Words of a review that decide its label; without one it is neutral.
_WORDS = {"positive": ("love", "great", "good"), "negative": ("hate", "awful", "bad")}
_HTML = "<html><head><title>Welcome</title></head><body>It works!</body></html>"


@dataclass(frozen=True)
class Behaviour:
    """How the server answers.

    Attributes:
        seconds: before each answer.
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
        tier: the service tier it says it served.
    """

    seconds: float = 0.0
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
    tier: str = ""


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
        self._window: list[float] = []

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/state", self.state)
        app.router.add_post("/settings", self.change)
        app.router.add_get("/", self.page)
        app.router.add_post("/html/chat/completions", self.page)
        from_batches = getattr(self, "add_routes", None)
        if from_batches:
            from_batches(app)
        return app

    async def page(self, request: web.Request) -> web.Response:
        """Answer as a web server that is no LLM server."""
        return web.Response(text=_HTML, content_type="text/html")

    async def models(self, request: web.Request) -> web.Response:
        """List the model."""
        entry = {"id": self.behaviour.model or "any", "object": "model", "created": 0}
        return web.json_response({"object": "list", "data": [entry]})

    async def state(self, request: web.Request) -> web.Response:
        """Say what was seen."""
        return web.json_response(
            {
                "calls": self.calls,
                "answered": dict(self.answered),
                "most_in_flight": self.most_in_flight,
                "statuses": dict(self.statuses),
                "billed": self.billed,
            }
        )

    async def change(self, request: web.Request) -> web.Response:
        """Change the behaviour."""
        self.behaviour = replace(self.behaviour, **await request.json())
        return web.json_response(asdict(self.behaviour))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer, or fail as told."""
        number, self.calls = self.calls, self.calls + 1
        self.arrivals.append(time.monotonic())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = await request.json()
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
        if b.seconds:
            await asyncio.sleep(b.seconds)
        if fault:
            found = await self._fault(fault, body, request)
            if found is not None:
                return found
        return self._answer(body)

    def _fault_by_word(self, body: dict[str, Any]) -> str | None:
        said = body["messages"][-1]["content"]
        return next((f for word, f in self.behaviour.fault_words.items() if word in said), None)

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
        return _error(int(name), detail or "made to fail", "made_up")

    async def _half(self, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        whole = self._answer(body).body
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(whole)
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
        request.transport.close()
        return response

    def _answer(self, body: dict[str, Any], said: str | None = None) -> web.Response:
        b = self.behaviour
        guarantee = _guarantee(body)
        labels = _labels(body, guarantee)
        enforced = guarantee if guarantee in b.enforces else ""
        text = _label(body["messages"], labels if enforced else ())
        if not enforced and said is None:
            said = _greeting(body) or b.text or None
        if said is not None and (not enforced or said in ("", "…") or guarantee == ""):
            text = said
        elif said is not None:
            text = said if said in labels else said
        message, tokens = _message(text, enforced)
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


def _error(
    status: int, message: str, code: str, headers: dict[str, str] | None = None
) -> web.Response:
    error = {"message": message, "type": code, "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def _guarantee(body: dict[str, Any]) -> str:
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return "json_schema"
    if "choice" in (body.get("structured_outputs") or {}):
        return "choice"
    if "grammar" in body:
        return "grammar"
    return "tool" if "tool_choice" in body else ""


def _labels(body: dict[str, Any], guarantee: str) -> tuple[str, ...]:
    if guarantee == "json_schema":
        schema = body["response_format"]["json_schema"]["schema"]
        return tuple(schema["properties"]["label"]["enum"])
    if guarantee == "choice":
        return tuple(body["structured_outputs"]["choice"])
    if guarantee == "grammar":
        return tuple(part.strip().strip('"') for part in body["grammar"][8:].split("|"))
    if guarantee == "tool":
        schema = body["tools"][0]["function"]["parameters"]
        return tuple(schema["properties"]["label"]["enum"])
    return ()


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


def _message(text: str, enforced: str) -> tuple[dict[str, Any], list[str]]:
    """Return the message and its tokens."""
    head, tail = text[:3], text[3:]
    if enforced == "json_schema":
        tokens = ['{"', "label", '":"', head, tail, '"}']
        return {"role": "assistant", "content": "".join(tokens), "refusal": None}, tokens
    if enforced == "tool":
        arguments = json.dumps({"label": text})
        function = {"name": "classify", "arguments": arguments}
        call = {"id": "call_1", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}, []
    tokens = [part for part in (head, tail) if part]
    return {"role": "assistant", "content": text, "refusal": None}, tokens


def _logprobs(tokens: list[str], labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Give the answer's own token 0.8 where labels part, the others share the rest."""
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
