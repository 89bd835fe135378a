"""Speed and memory of the request loop.

Against a local server that answers after 50 ms, 64 calls in flight: requests per second of bare
aiohttp, of AsyncOpenAI, and of the loop of `sentikit prompt` with its journal; then the loop's peak
memory at 1,000 and 100,000 rows against a server that answers at once. With --refusals: AsyncOpenAI
and the loop against a server that refuses 0, 1 and 3 % of the calls at random (429 with
Retry-After: 1), and against one with a token bucket of 80 calls per second.

    python benchmarks/request_loop.py [--requests 3000] [--rounds 3] [--rows 1000 100000]
    python benchmarks/request_loop.py --refusals [--requests 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median

IN_FLIGHT = 64
LABELS = ("negative", "neutral", "positive")
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": '{"label":"positive"}', "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 120, "completion_tokens": 5, "total_tokens": 125},
}


def question(number: int) -> str:
    """Return a prompt as long as the study's zero-shot one."""
    return f"Classify the sentiment. {'The review text to classify. ' * 14}\nReview: text {number}"


def serve(seconds: float, share: float = 0.0, per_second: float = 0.0) -> None:
    """Run a server that gives every request the same answer; print its port.

    Args:
        seconds: before each answer.
        share: of the calls that are refused at random.
        per_second: calls that a token bucket allows, or 0.
    """
    from aiohttp import web

    content = json.dumps(ANSWER).encode()
    chance, refused = random.Random(0), 0  # noqa: S311 - chance
    level, at = per_second, time.monotonic()

    async def count(request: web.Request) -> web.Response:
        return web.json_response({"refused": refused})

    async def answer(request: web.Request) -> web.Response:
        nonlocal level, at, refused
        await request.read()
        now = time.monotonic()
        level, at = min(per_second, level + (now - at) * per_second), now
        if chance.random() < share or (per_second and level < 1):
            refused += 1
            error = {"error": {"message": "Rate limit reached.", "code": "rate_limit_exceeded"}}
            return web.json_response(error, status=429, headers={"Retry-After": "1"})
        level -= 1
        if seconds:
            await asyncio.sleep(seconds)
        return web.Response(body=content, content_type="application/json")

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        app.router.add_get("/v1/refused", count)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        print(site._server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())


async def pooled(call: Callable[[int], Awaitable[object]], requests: int) -> None:
    """Make calls with a fixed number of workers."""
    numbers = iter(range(requests))

    async def work() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def bare(url: str, requests: int) -> None:
    """Bare aiohttp: post, read, parse."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(number: int) -> None:
            body = {"model": "m", "messages": [{"role": "user", "content": question(number)}]}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        await pooled(call, requests)


async def sdk(url: str, requests: int) -> None:
    """AsyncOpenAI as its documentation uses it."""
    from openai import AsyncOpenAI, RateLimitError

    given_up: list[int] = []
    # With its default of two retries, it gives up calls and finishes early.
    async with AsyncOpenAI(api_key="none", base_url=url, max_retries=50) as client:

        async def call(number: int) -> None:
            messages = [{"role": "user", "content": question(number)}]
            try:
                await client.chat.completions.create(model="m", messages=messages)  # type: ignore[arg-type]
            except RateLimitError:
                given_up.append(number)

        await pooled(call, requests)
    if given_up:
        print(f"AsyncOpenAI gave {len(given_up)} calls up", file=sys.stderr)


def loop(url: str, requests: int) -> None:
    """The request loop with the backend openai and its journal."""
    from sentikit.classifiers.label_reader import parse_label
    from sentikit.extension import ChatRequest, Message
    from sentikit.llm.requests.loop import Question
    from sentikit.llm.requests.progress import RequestReporter
    from sentikit.llm.session import RequestSession
    from sentikit.llm.settings import RequestOptions
    from sentikit.registry import default_registry

    backend_class = default_registry().load("register_llm_backends", "openai")
    settings = backend_class.Settings(model="m", base_url=url, guarantee="json_schema")
    questions: Iterator[Question[int]] = (
        Question(number, ChatRequest((Message("user", question(number)),), LABELS))
        for number in range(requests)
    )
    options = RequestOptions(in_flight=IN_FLIGHT)
    with (
        tempfile.TemporaryDirectory() as folder,
        RequestReporter(requests) as reporter,
        RequestSession("benchmark", Path(folder) / "answers.sqlite", reporter=reporter) as session,
    ):
        member = session.member(backend_class(settings), options, parse_label, LABELS)
        for _ in session.ask(member, questions):
            pass
    assert session.tally.rows == requests
    assert not session.tally.invalid


MODES = ("bare", "sdk", "loop")


def run(mode: str, url: str, requests: int) -> dict[str, float]:
    """Run one mode in this process, after a few warm-up requests, and measure it."""
    import resource

    job: Callable[[int], None] = {
        "bare": lambda n: asyncio.run(bare(url, n)),
        "sdk": lambda n: asyncio.run(sdk(url, n)),
        "loop": lambda n: loop(url, n),
    }[mode]
    job(IN_FLIGHT * 2)
    began, cpu = time.perf_counter(), time.process_time()
    job(requests)
    seconds = time.perf_counter() - began
    return {
        "per_second": requests / seconds,
        "cpu_ms": (time.process_time() - cpu) / requests * 1000,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_child(mode: str, url: str, requests: int) -> dict[str, float]:
    """Run one mode in a separate process."""
    command = [sys.executable, __file__, "--child", mode, url, str(requests)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(out.splitlines()[-1]))


def with_server(
    seconds: float, share: float = 0.0, per_second: float = 0.0
) -> tuple[subprocess.Popen[str], str]:
    """Start a server process; see `serve`."""
    arguments = [str(seconds), str(share), str(per_second)]
    command = [sys.executable, __file__, "--serve", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000, 100_000])
    parser.add_argument("--refusals", action="store_true")
    parser.add_argument("--serve", type=float, nargs=3)
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    if options.serve is not None:
        serve(*options.serve)
    elif options.child:
        mode, url, requests = options.child
        print(json.dumps(run(mode, url, int(requests))))
    elif options.refusals:
        refusals(options.requests)
    else:
        speed(options.requests, options.rounds)
        memory(options.rows)


def speed(requests: int, rounds: int) -> None:
    """Compare the modes alternately, so that noise affects all of them."""
    process, url = with_server(0.05)
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    try:
        for _ in range(rounds):
            for mode in MODES:
                found[mode].append(in_child(mode, url, requests))
    finally:
        process.kill()
    for mode in MODES:
        rate = median(result["per_second"] for result in found[mode])
        cpu = median(result["cpu_ms"] for result in found[mode])
        print(f"{mode:>5}: {rate:7.0f} requests/s, {cpu:.2f} ms CPU each")
    for other in ("bare", "sdk"):
        ratios = [
            ours["per_second"] / theirs["per_second"]
            for ours, theirs in zip(found["loop"], found[other], strict=True)
        ]
        print(f"loop / {other}: {median(ratios):.2f} (rounds: {[round(r, 2) for r in ratios]})")


def refusals(requests: int) -> None:
    """Compare AsyncOpenAI and the loop with servers that refuse calls."""
    print("server                 AsyncOpenAI          loop")
    for name, share, per_second in (
        ("0 % refused", 0.0, 0.0),
        ("1 % refused", 0.01, 0.0),
        ("3 % refused", 0.03, 0.0),
        ("80 calls a second", 0.0, 80.0),
    ):
        cells = []
        for mode in ("sdk", "loop"):
            process, url = with_server(0.05, share, per_second)
            try:
                found = in_child(mode, url, requests)
                with urllib.request.urlopen(f"{url}/refused") as response:  # noqa: S310 - our own
                    refused = json.load(response)["refused"]
            finally:
                process.kill()
            seconds = requests / found["per_second"]
            cells.append(f"{seconds:6.1f} s {refused:5} refused")
        print(f"{name:<20} {cells[0]}  {cells[1]}")


def memory(rows: list[int]) -> None:
    """Print the peak memory of the loop for each number of rows."""
    process, url = with_server(0.0)
    try:
        for number in rows:
            peak = in_child("loop", url, number)
            print(f"{number:>7,} rows: peak {peak['peak_mib']:.0f} MiB")
    finally:
        process.kill()


if __name__ == "__main__":
    main()
