"""Settings of the backend ``openai`` that reach a server: headers, tokens, APIs, proxies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from llm_fixtures import ask, ask_about, in_thread, openai_backend, serving
from prompt_runs import make_components, run_prompts

from sentikit import InputError, SentikitError
from sentikit.llm.settings import RequestOptions
from sentikit.runs.writer import FinishedRun

KEY = "sk-proj-" + "k3y" * 12


@contextmanager
def answering(
    answer: Callable[[web.Request, dict[str, Any]], Any], path: str = "/v1/chat/completions"
) -> Iterator[str]:
    async def respond(request: web.Request) -> web.Response:
        found = answer(request, await request.json())
        return found if isinstance(found, web.Response) else web.json_response(found)

    def application() -> web.Application:
        app = web.Application()
        app.router.add_post(path, respond)
        return app

    with in_thread(application) as url:
        yield f"{url}/v1"


def completion(text: str) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
    }


def test_plain_headers_are_sent_and_a_header_can_be_omitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    seen: list[dict[str, str]] = []

    def answer(request: web.Request, body: dict[str, Any]) -> Any:
        seen.append(dict(request.headers))
        return completion("positive")

    with answering(answer) as url:
        headers = {"X-Team": "reviews", "Authorization": None}
        asked = ask(openai_backend(url, headers=headers), ask_about(["Hm"]), tmp_path)
    assert asked.labels == ["positive"]
    assert all(given["X-Team"] == "reviews" for given in seen)
    assert not any("Authorization" in given for given in seen)


@pytest.mark.parametrize(
    "headers", [{"X-Api-Key": "abc"}, {"X-Trace": KEY}, {"Cookie": "a=b"}, {"authorization": "x"}]
)
def test_a_header_that_looks_like_a_key_is_refused_without_printing_it(
    headers: dict[str, str],
) -> None:
    with pytest.raises(InputError, match=r"llm\.headers\..* seems to hold a key") as caught:
        openai_backend("http://127.0.0.1:9/v1", headers=headers)
    assert not any(value in caught.value.message for value in headers.values() if len(value) > 3)


def test_a_command_prints_fresh_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    script = tmp_path / "token.py"
    script.write_text(
        "import pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "number = int(path.read_text()) + 1\n"
        "path.write_text(str(number))\n"
        "print(f'token-number-{number}')\n"
    )
    monkeypatch.setenv("OPENAI_API_KEY_COMMAND", f"{sys.executable} {script} '{count}'")
    calls = 0

    def answer(request: web.Request, body: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        wanted = "1" if calls <= 4 else "2"
        if request.headers["Authorization"] != f"Bearer token-number-{wanted}":
            error = {"error": {"message": f"Expired: {request.headers['Authorization']}"}}
            return web.json_response(error, status=401)
        return completion("one two" if "Count" in str(body) else "positive")

    with answering(answer) as url:
        backend = openai_backend(url, guarantee="text")
        texts = [f"I love it {n}" for n in range(8)]
        asked = ask(backend, ask_about(texts), tmp_path, options=RequestOptions(in_flight=1))
    assert asked.labels == ["positive"] * 8
    assert count.read_text() == "2"
    assert b"token-number" not in (tmp_path / "answers.sqlite").read_bytes()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/no/such/program", "OPENAI_API_KEY_COMMAND cannot be run"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", r"printed no token \(exit code 3\)"),
        (f"{sys.executable} -c 'print()'", "printed no token"),
        ("'", "OPENAI_API_KEY_COMMAND cannot be run"),
    ],
)
def test_a_command_that_prints_no_token_ends_the_run(
    command: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_COMMAND", command)
    with serving() as s, pytest.raises(SentikitError, match=message):
        ask(openai_backend(s.url), ask_about(["Hm"]), tmp_path)


def test_a_command_in_an_env_file_is_not_run(tmp_path: Path) -> None:
    Path(".env").write_text(f"OPENAI_API_KEY_COMMAND=touch {tmp_path}/ran\n")
    with serving() as s:
        ask(openai_backend(s.url), ask_about(["I love it"]), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_openais_responses_api_is_supported(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(request: web.Request, body: dict[str, Any]) -> Any:
        bodies.append(body)
        question = body["input"][-1]["content"]
        text = "Hello!" if "Greet" in question else "one two" if "Count" in question else "positive"
        if "text" in body:
            labels = body["text"]["format"]["schema"]["properties"]["label"]["enum"]
            text = json.dumps({"label": labels[0] if "Greet" in question else "positive"})
        logs = [{"token": text, "logprob": -0.1, "top_logprobs": []}]
        part = {"type": "output_text", "text": text, "logprobs": logs}
        return {
            "object": "response",
            "status": "completed",
            "error": None,
            "model": "m",
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "content": [part]},
            ],
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 40},
                "output_tokens": 7,
                "total_tokens": 107,
            },
        }

    with answering(answer, "/v1/responses") as url:
        backend = openai_backend(url, api="responses", reasoning_effort="low")
        prices = {"prompt": 1, "cached": 0.5, "completion": 1}
        options = RequestOptions(prices=prices)
        asked = ask(backend, ask_about(["I love it"]), tmp_path, options=options)
    assert asked.labels == ["positive"]
    assert asked.rows[0].cost == pytest.approx((60 + 20 + 7) / 1e6)
    last = bodies[-1]
    assert last["max_output_tokens"] == 64
    assert last["store"] is False
    assert last["reasoning"] == {"effort": "low"}
    assert last["text"]["format"]["type"] == "json_schema"
    assert not {"messages", "max_completion_tokens", "logprobs", "response_format"} & set(last)


def test_a_truncated_response_is_invalid_and_not_repaired(tmp_path: Path) -> None:
    calls = 0

    def answer(request: web.Request, body: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        details = {"reason": "max_output_tokens"}
        return {"status": "incomplete", "incomplete_details": details, "output": []}

    with answering(answer, "/v1/responses") as url:
        backend = openai_backend(url, api="responses", guarantee="text")
        asked = ask(backend, ask_about(["I love it"]), tmp_path)
    assert asked.rows[0].answers[0].finish_reason == "length"
    assert calls == 2


def test_answers_are_reused_at_another_gateway_with_the_same_cache_name(tmp_path: Path) -> None:
    with serving() as one, serving() as other:
        for server in (one, other):
            backend = openai_backend(server.url, cache_name="our-llama", guarantee="text")
            asked = ask(backend, ask_about(["I love it"]), tmp_path)
            assert asked.labels == ["positive"]
        assert sum("Review" in str(body) for body in other.server.bodies) == 0
        backend = openai_backend(other.url, guarantee="text")
        ask(backend, ask_about(["I love it"]), tmp_path)
        assert sum("Review" in str(body) for body in other.server.bodies) == 1


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_a_dead_proxy_is_named_by_its_variable(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(SentikitError, match=f"through the proxy in {variable}.*NO_PROXY"):
        ask(openai_backend("http://llm.example/v1"), ask_about(["Hm"]), tmp_path)


def test_a_socks_proxy_is_refused_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(InputError, match="ALL_PROXY names a proxy of the kind socks5"):
        ask(openai_backend("http://llm.example/v1"), ask_about(["Hm"]), tmp_path)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.posix
def test_a_signal_ends_the_opening_of_a_server_that_never_answers(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\nI love it,positive\n")
    with serving(seconds=60) as s:
        recipe = tmp_path / "own.yaml"
        recipe.write_text(
            "kind: prompt\ndataset: {name: files, test: reviews.csv}\n"
            f"llm: {{backend: openai, model: m, base_url: '{s.url}'}}\n"
        )
        command = [sys.executable, "-m", "sentikit", "prompt", "--recipe", "own.yaml"]
        process = subprocess.Popen(
            [*command, "--output", "runs/a"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        while not s.server.calls:
            time.sleep(0.05)
        number = signal.Signals[name]
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number, errors
    # Nothing was begun, so nothing can be resumed.
    assert "--resume" not in errors


def test_the_token_limit_for_thinking_is_learned_once_and_remembered() -> None:
    Path("test.csv").write_text("text,label\nI love it,positive\nSo good,positive\n")
    limits: list[int] = []

    def answer(request: web.Request, body: dict[str, Any]) -> Any:
        limits.append(body["max_completion_tokens"])
        cut = limits[-1] < 200
        found = completion("" if cut else "positive")
        found["choices"][0]["finish_reason"] = "length" if cut else "stop"
        return found

    def run(name: str, **llm: Any) -> FinishedRun:
        limits.clear()
        section = {"backend": "openai", "model": "thinker", "base_url": url, **llm}
        dataset = {"name": "files", "test": "test.csv"}
        return run_prompts(make_components(dataset=dataset, llm=section), Path("runs") / name)

    with answering(answer) as url:
        assert run("first").totals.invalid == 0
        assert limits[-2:] == [512, 512]
        # The answers are there, and what the server can do is remembered.
        assert run("second").totals.invalid == 0
        assert limits == []
        # A limit that the user gives stands: both answers are cut, and neither is asked again.
        assert run("third", max_tokens=100).totals.invalid == 2
        assert limits == [100, 100]
        assert run("fourth", max_tokens=100).totals.invalid == 2
        assert limits == []


def test_a_key_repeated_in_an_answer_is_never_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", KEY)
    with answering(lambda request, body: completion(f"positive {KEY}")) as url:
        asked = ask(openai_backend(url, guarantee="text"), ask_about(["Hm"]), tmp_path)
    (row,) = asked.rows
    assert row.answers[0].text == "positive [OTHER_API_KEY]"
    for file in tmp_path.glob("answers.sqlite*"):
        assert KEY.encode() not in file.read_bytes()


def test_a_cached_answer_is_priced_at_todays_prices(tmp_path: Path) -> None:
    with answering(lambda request, body: completion("positive")) as url:
        for run, price, cost in (("one", 1.0, 11e-6), ("two", 3.0, 33e-6)):
            options = RequestOptions(prices={"prompt": price, "completion": price})
            backend = openai_backend(url, guarantee="text")
            asked = ask(backend, ask_about(["Hm"]), tmp_path, run=run, options=options)
            assert asked.rows[0].cost == pytest.approx(cost)
            # What a run paid itself stays what it was when it was paid.
            dearer = RequestOptions(prices={"prompt": 9, "completion": 9})
            again = ask(backend, ask_about(["Hm"]), tmp_path, run="one", options=dearer)
            assert again.rows[0].cost == pytest.approx(11e-6)
