"""Servers that are not exactly OpenAI: what becomes of each odd answer, in a live run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest
from aiohttp import web
from llm_fixtures import Asked, ask, ask_about, in_thread, openai_backend

from sentikit import SentikitError
from sentikit.llm.settings import RequestOptions

TEXTS = ["it is good", "it is bad", "it is there"]
EXPECTED = ["positive", "negative", "neutral"]
INVALID = [None, None, None]
#: One token is one microdollar.
PRICES = {"prompt": 1, "completion": 1}


@dataclass
class Call:
    """One call as the odd server sees it: its number from 1, its body, the right label."""

    number: int
    body: dict[str, Any]
    label: str
    probing: bool


def completion(content: Any, finish: str = "stop", usage: Any = "usual", **more: Any) -> Any:
    """Build a chat completion; keyword arguments go into the message."""
    counts = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}
    message = {"role": "assistant", "content": content, **more}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "choices": [choice],
        "usage": counts if usage == "usual" else usage,
    }


def with_choice(label: str, **more: Any) -> Any:
    value = completion(label)
    value["choices"][0] |= more
    return value


def failure(status: int, message: str, headers: Any = None, **more: Any) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "code": None, **more}
    return web.json_response({"error": error}, status=status, headers=headers)


def raw(body: str, kind: str = "text/event-stream") -> web.Response:
    return web.Response(body=body.encode(), content_type=kind)


Behaviour = Callable[[Call], Any]


@dataclass
class OddServer:
    """A server that answers as one behaviour says.

    Attributes:
        behaviour: from a call to a JSON value or a whole response.
        calls: how many came that were about a text.
        bodies: of these.
    """

    behaviour: Behaviour
    also_probe: bool = False
    calls: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    seen: Counter[bool] = field(default_factory=Counter)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        return app

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        asked = next(
            m["content"]
            for m in reversed(body["messages"])
            if "Review:" in m["content"] or len(body["messages"]) == 1
        )
        probing = "Review:" not in asked
        self.seen[probing] += 1
        label = "positive" if "good" in asked else "negative" if "bad" in asked else "neutral"
        if probing and not self.also_probe:
            return web.json_response(completion("one two three"))
        if not probing:
            self.calls += 1
            self.bodies.append(body)
        found = self.behaviour(Call(self.seen[probing], body, label, probing))
        return found if isinstance(found, web.Response) else web.json_response(found)


@contextmanager
def odd(behaviour: Behaviour, also_probe: bool = False) -> Iterator[tuple[str, OddServer]]:
    server = OddServer(behaviour, also_probe)
    with in_thread(server.application) as url:
        yield f"{url}/v1", server


def run(
    url: str,
    folder: Path,
    texts: list[str] = TEXTS,
    into: Asked | None = None,
    max_tokens: int = 64,
    max_cost: float | None = None,
    **options: Any,
) -> Asked:
    settings = {"in_flight": 1, "tries": 2, "prices": PRICES} | options
    return ask(
        openai_backend(url),
        ask_about(texts, max_tokens=max_tokens),
        folder,
        options=RequestOptions(**settings),
        into=into,
        max_cost=max_cost,
    )


PLAIN: dict[str, Behaviour] = {
    "a code fence around JSON": lambda c: completion(f'```json\n{{"label": "{c.label}"}}\n```'),
    "JSON with another key": lambda c: completion(f'{{"classification": "{c.label}"}}'),
    "JSON with a reason": lambda c: completion(f'{{"label": "{c.label.upper()}", "reason": "x"}}'),
    "JSON in another case": lambda c: completion(f'{{"Label": "{c.label.capitalize()}"}}'),
    "a full stop": lambda c: completion(f"{c.label.capitalize()}."),
    "bold": lambda c: completion(f"**Classification: {c.label.capitalize()}**"),
    "thinking before it": lambda c: completion(f"<think>\nmaybe negative\n</think>\n\n{c.label}"),
    "reasoning beside it": lambda c: completion(c.label, reasoning_content="hmm negative"),
    "quotes": lambda c: completion(f"'{c.label}'"),
    "a field's name": lambda c: completion(f"Label: {c.label}"),
    "the review again": lambda c: completion(f"Review: it was\nClassification: {c.label}"),
    "an end token": lambda c: completion(f"{c.label}<|eot_id|>"),
    "another end token": lambda c: completion(f"{c.label}</s>"),
    "parentheses": lambda c: completion(f"({c.label})"),
    "a bullet": lambda c: completion(f"- {c.label}"),
    "invisible characters": lambda c: completion(f"\u00a0{c.label}\u200b\ufeff"),
    "a full-width stop": lambda c: completion(f"{c.label}\u3002"),
    "content as parts": lambda c: completion([{"type": "text", "text": c.label}]),
    "content with a thinking part": lambda c: completion(
        [{"type": "thinking", "text": "negative"}, {"type": "text", "text": c.label}]
    ),
    "a message that is a string": lambda c: with_choice(c.label, message=c.label),
    "a tool call": lambda c: completion(
        c.label, tool_calls=[{"function": {"name": "f", "arguments": "{}"}}]
    ),
    "a log-probability that is NaN": lambda c: raw(
        json.dumps(
            with_choice(
                c.label,
                logprobs={
                    "content": [
                        {
                            "token": c.label,
                            "logprob": float("nan"),
                            "top_logprobs": [{"token": c.label, "logprob": None}],
                        }
                    ]
                },
            )
        ),
        "application/json",
    ),
    "log-probabilities that are text": lambda c: with_choice(c.label, logprobs="none"),
    "a service tier that is a list": lambda c: completion(c.label) | {"service_tier": ["default"]},
    "an unknown service tier": lambda c: completion(c.label) | {"service_tier": "on_demand"},
    "a model that is a number": lambda c: completion(c.label) | {"model": 7},
    "a finish reason that is a list": lambda c: completion(c.label, finish=["stop"]),  # type: ignore[arg-type]
    "usage that is text": lambda c: completion(c.label, usage="n/a"),
    "usage without numbers": lambda c: completion(c.label, usage={"prompt_tokens": "many"}),
    "usage that is negative": lambda c: completion(
        c.label, usage={"prompt_tokens": -1, "completion_tokens": -1, "total_tokens": -1}
    ),
    "usage that is huge": lambda c: completion(
        c.label, usage={"prompt_tokens": 1e308, "completion_tokens": 1}
    ),
    "no usage": lambda c: completion(c.label, usage=None),
    "a stream": lambda c: raw(
        f'data: {{"choices": [{{"delta": {{"content": "{c.label[:3]}"}}}}]}}\n\n'
        f'data: {{"choices": [{{"delta": {{"content": "{c.label[3:]}"}}}}]}}\n\ndata: [DONE]\n\n'
    ),
    "a stream's end behind it": lambda c: raw(
        json.dumps(completion(c.label)) + "\n\ndata: [DONE]\n\n"
    ),
    "an enormous rate-limit reset": lambda c: web.json_response(
        completion(c.label),
        headers={
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "99999999999h",
        },
    ),
}

NO_LABEL: dict[str, Behaviour] = {
    "prose": lambda c: completion(f"The sentiment is {c.label}."),
    "another word": lambda c: completion("mixed"),
    "an explanation behind it": lambda c: completion(f"{c.label}\n\nExplanation: because."),
    "an emoji": lambda c: completion(f"{c.label} \U0001f60a"),
    "another language": lambda c: completion("n\u00e9gatif"),
    "half a surrogate pair": lambda c: completion(f"{c.label}\ud83d"),
    "nothing": lambda c: completion(None),
    "a refusal": lambda c: completion(None, refusal="I can't help with that."),
}


@pytest.mark.parametrize("behaviour", PLAIN.values(), ids=PLAIN)
def test_a_label_in_unusual_wrapping_is_accepted(behaviour: Behaviour, tmp_path: Path) -> None:
    with odd(behaviour) as (url, server):
        asked = run(url, tmp_path)
    assert asked.labels == EXPECTED
    assert server.calls == len(TEXTS)
    assert all(row.cost is None or row.cost >= 0 for row in asked.rows)


@pytest.mark.parametrize("behaviour", NO_LABEL.values(), ids=NO_LABEL)
def test_an_answer_without_a_label_is_repaired_once_and_then_invalid(
    behaviour: Behaviour, tmp_path: Path
) -> None:
    with odd(behaviour) as (url, server):
        asked = run(url, tmp_path)
    assert asked.labels == INVALID
    assert [row.error for row in asked.rows] == INVALID
    assert server.calls == 2 * len(TEXTS)


@pytest.mark.parametrize("finish", ["length", "content_filter"])
@pytest.mark.parametrize("content", [None, "", "neg"])
def test_an_answer_ended_by_a_filter_is_not_repaired(
    finish: str, content: str | None, tmp_path: Path
) -> None:
    with odd(lambda c: completion(content, finish=finish)) as (url, server):
        asked = run(url, tmp_path)
    assert asked.labels == INVALID
    assert [row.answers[-1].finish_reason for row in asked.rows] == [finish] * 3
    assert server.calls == len(TEXTS)
    assert asked.outcome is not None
    assert asked.outcome.tally.cut == (3 if finish == "length" else 0)


def test_truncated_answers_are_reported_with_the_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with odd(lambda c: completion("", finish="length")) as (url, _):
        run(url, tmp_path)
    message = " ".join(capsys.readouterr().err.split())
    assert "3 answers were cut at llm.max_tokens=64. Raise it, or lower" in message


def test_a_run_whose_first_twenty_answers_are_truncated_stops(tmp_path: Path) -> None:
    texts = [f"it is good {n}" for n in range(60)]
    with odd(lambda c: completion("", finish="length")) as (url, server):
        with pytest.raises(SentikitError, match=r"first 20 answers were cut at llm.max_tokens=64"):
            run(url, tmp_path, texts)
        assert server.calls < 30
        # Resumed with the same limit, it stops without paying again.
        before = server.calls
        with pytest.raises(SentikitError, match="first 20 answers were cut"):
            run(url, tmp_path, texts)
        assert server.calls <= before + 2


JSON_TYPE = "application/json"
#: An error that goes away: from the number of the call on its text to the response.
PASSING: dict[str, Behaviour] = {
    "an error inside a 200": lambda c: {
        "id": None,
        "choices": None,
        "error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "Busy"}},
    },
    "an error inside a choice": lambda c: {
        "choices": [
            {
                "error": {"message": "Provider returned error", "code": 502},
                "finish_reason": "error",
                "message": {"role": "assistant", "content": ""},
            }
        ]
    },
    "a named error without a number": lambda c: {"error": {"type": "overloaded_error"}},
    "no choices": lambda c: {"id": "x", "choices": [], "usage": None},
    "a number of 20,000 digits": lambda c: raw(f'{{"id": {"9" * 20_000}}}', JSON_TYPE),
    "choices that are text": lambda c: {"choices": "none"},
    "a server error": lambda c: failure(500, "oops"),
    "a wait as a date": lambda c: failure(
        429, "Rate limit", {"Retry-After": formatdate(time() + 1, usegmt=True)}
    ),
    "a wait until the year 99999": lambda c: failure(
        503, "Rate limit", {"Retry-After": "Fri, 31 Dec 99999 23:59:59 GMT"}
    ),
    "a wait until no day": lambda c: failure(
        503, "Rate limit", {"Retry-After": "Sat, 99 Foo 2026 99:99:99 GMT"}
    ),
}


@pytest.mark.parametrize("behaviour", PASSING.values(), ids=PASSING)
def test_a_transient_error_is_retried(behaviour: Behaviour, tmp_path: Path) -> None:
    def once(call: Call) -> Any:
        return behaviour(call) if call.number == 1 else completion(call.label)

    with odd(once) as (url, server):
        asked = run(url, tmp_path)
    assert asked.labels == EXPECTED
    assert server.calls == len(TEXTS) + 1


#: A refusal that concerns one text.
REFUSED: dict[str, Behaviour] = {
    "a filter's 400": lambda c: failure(400, "The response was filtered.", code="content_filter"),
    "a long prompt": lambda c: failure(400, "maximum context length is 4096 tokens."),
    "a 403 of a moderator": lambda c: failure(403, "Your input was flagged by moderation."),
    "a 403 after other answers": lambda c: failure(403, "Forbidden."),
    "an error inside a 200 with 400": lambda c: {"error": {"message": "bad text", "code": 400}},
    "an error inside a 200 that is a word": lambda c: {"error": "cannot do this"},
}


@pytest.mark.parametrize("behaviour", REFUSED.values(), ids=REFUSED)
def test_a_refusal_of_one_text_fails_only_its_row(behaviour: Behaviour, tmp_path: Path) -> None:
    def one(call: Call) -> Any:
        return behaviour(call) if call.label == "negative" else completion(call.label)

    with odd(one) as (url, _):
        asked = run(url, tmp_path)
    assert asked.labels == ["positive", None, "neutral"]
    assert [bool(row.error) for row in asked.rows] == [False, True, False]


#: An error that no call survives, and the sentence about it.
FINAL: dict[str, tuple[Behaviour, str]] = {
    "no key": (
        lambda c: failure(401, "No key."),
        "requires a key .401: No key.., but OPENAI_API_KEY",
    ),
    "credit": (
        lambda c: failure(429, "Pay.", code="insufficient_quota"),
        "lack of credit or quota",
    ),
    "credit inside a 200": (
        lambda c: {"error": {"message": "Pay.", "code": "insufficient_quota"}},
        "lack of credit or quota",
    ),
    "no model": (lambda c: failure(404, "The model `m` does not exist."), "has no model"),
    "a page": (lambda c: raw("<html>Welcome</html>", "text/html"), "answers with text/html"),
    "JSON nested too deeply": (
        lambda c: raw("[" * 200_000, JSON_TYPE),
        "not as an OpenAI-compatible server does",
    ),
    "another API": (
        lambda c: failure(404, "This model is only supported in v1/responses."),
        "llm.api=responses",
    ),
    "streams only": (lambda c: failure(400, "This server only supports streaming."), "streaming"),
    "a long wait": (
        lambda c: failure(429, "Rate limit", {"Retry-After": "86400"}),
        r"asks to wait 86,400 s.*llm.longest_wait",
    ),
}


@pytest.mark.parametrize(("behaviour", "message"), FINAL.values(), ids=FINAL)
def test_a_fatal_error_ends_the_run_at_once(
    behaviour: Behaviour, message: str, tmp_path: Path
) -> None:
    with odd(behaviour, also_probe=True) as (url, _), pytest.raises(SentikitError, match=message):
        run(url, tmp_path)


def test_an_error_inside_a_200_at_the_first_call_is_retried(tmp_path: Path) -> None:
    def first(call: Call) -> Any:
        if call.probing and call.number == 1:
            return {"id": None, "choices": None, "error": {"message": "Busy", "code": 429}}
        return completion("one two" if call.probing else call.label)

    with odd(first, also_probe=True) as (url, _):
        assert run(url, tmp_path).labels == EXPECTED


@pytest.mark.parametrize(
    ("status", "message", "asked_for"),
    [
        (403, "You are not allowed to request logprobs from this model.", None),
        (422, "Extra inputs are not permitted: logprobs, top_logprobs", None),
        (400, "Requested sample logprobs of 20, which is greater than max allowed: 5", 5),
    ],
)
def test_a_refusal_of_log_probabilities_is_remembered(
    status: int, message: str, asked_for: int | None, tmp_path: Path
) -> None:
    def refuse(call: Call) -> Any:
        if call.body.get("top_logprobs", 0) > (asked_for or 0):
            return failure(status, message)
        if "logprobs" in call.body:
            logs = {"content": [{"token": "one", "logprob": -0.1, "top_logprobs": []}]}
            return with_choice("one" if call.probing else call.label, logprobs=logs)
        return completion("one two" if call.probing else call.label)

    with odd(refuse, also_probe=True) as (url, server):
        assert run(url, tmp_path).labels == EXPECTED
    assert [body.get("top_logprobs") for body in server.bodies] == [asked_for] * 3


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}, 105),
        ({"prompt_tokens": 100.0, "completion_tokens": "5", "total_tokens": 105}, 105),
        ({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 605}, 605),
        ({"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": []}, 105),
        ({"prompt_tokens": 100, "total_tokens": 105}, 105),
        (
            {
                "prompt_tokens": 2000,
                "completion_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 1920},
            },
            80 + 1920 / 10 + 10,
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 1920},
            },
            100 + 1920 / 10 + 10,
        ),
        ({"prompt_tokens": 100, "completion_tokens": 5, "cost": 0.001}, 1000),
        ({"prompt_tokens": 100, "completion_tokens": 5, "cost": 0.000001}, 105),
        ({"prompt_tokens": 100, "completion_tokens": 5, "cost": -6.43}, 105),
        ({"prompt_tokens": 100, "completion_tokens": 5, "cost": "free"}, 105),
        ({"cost": 0.002}, 2000),
    ],
    ids=[
        "plain",
        "numbers of other types",
        "thinking in the total alone",
        "details that are a list",
        "no completion",
        "cached",
        "cached apart",
        "a greater cost of the provider's",
        "a smaller cost of the provider's",
        "a negative cost of the provider's",
        "a cost that is text",
        "a cost and no tokens",
    ],
)
def test_usage_reported_by_the_server_is_billed(usage: Any, billed: float, tmp_path: Path) -> None:
    with odd(lambda c: completion(c.label, usage=usage)) as (url, _):
        asked = run(url, tmp_path, prices={**PRICES, "cached": 0.1})
    assert [row.cost for row in asked.rows] == [pytest.approx(billed / 1e6)] * 3


@pytest.mark.parametrize(
    ("usage", "hidden"),
    [("usual", 0), ("usual", 400), (None, 0), ("n/a", 0), ({"prompt_tokens": -1}, 0)],
)
def test_the_ceiling_holds_whatever_the_server_says_of_usage(
    usage: Any, hidden: int, tmp_path: Path
) -> None:
    def answer(call: Call) -> Any:
        reported = usage
        if usage == "usual":
            reported = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105 + hidden}
        return completion(call.label, usage=reported)

    ceiling, kept = 0.01, Asked()
    texts = [f"it is good {n}" for n in range(300)]
    with odd(answer) as (url, server):
        with pytest.raises(SentikitError, match="--max-cost"):
            run(url, tmp_path, texts, into=kept, max_cost=ceiling)
        billed = server.calls * (105 + hidden) / 1e6
    # Where nothing is known of usage the bound on the prompt stands for it.
    assert billed <= ceiling * (1.02 if usage == "usual" else 1.0) + 0.0011


def test_a_key_echoed_by_a_server_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-proj-" + "k3y" * 12
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with odd(lambda c: completion(f"your key is {key}")) as (url, _):
        asked = run(url, tmp_path)
    assert key not in str([row.answers for row in asked.rows])
    assert key.encode() not in (tmp_path / "answers.sqlite").read_bytes()
