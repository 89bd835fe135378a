"""The tracker ``otel``: every LLM call as a span that a real collector can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from llm_fixtures import serving
from otlp_receiver import Received, Span, receiving
from prompt_runs import make_components
from sentikit.plugins.plugin_kit.checks import check_tracker

from sentikit import InputError
from sentikit.cli import sentikit
from sentikit.labelling.prompting import run_prompt
from sentikit.labelling.rows import LabellingOptions
from sentikit.runs.writer import FinishedRun
from sentikit.stopping import Interrupted

KEY = "sk-proj-0123456789abcdef0123456789abcdef"
PRICES = {"prompt": 1, "completion": 1, "tiers": {"batch": 0.5, "flex": 0.5}}
TEXTS = ["I love it", "I hate it", "I read it", "I love it"]


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a collector of the user's own out of the tests."""
    for variable in ("ENDPOINT", "TRACES_ENDPOINT", "HEADERS"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{variable}", raising=False)


def write_reviews(texts: list[str] = TEXTS) -> dict[str, str]:
    """Write a split with gold labels, and return the dataset's section."""
    lines = [json.dumps({"text": text, "label": "neutral"}) for text in texts]
    Path("test.jsonl").write_text("\n".join(lines))
    return {"name": "files", "test": "test.jsonl"}


def run(
    url: str, tracker: Any, output: str = "runs/a", texts: list[str] = TEXTS, **options: Any
) -> FinishedRun:
    llm = {"backend": "openai", "model": "any", "base_url": url, "prices": PRICES}
    components = make_components(dataset=write_reviews(texts), llm=llm, trackers=[tracker])
    return run_prompt(components, Path(output), LabellingOptions(**options))


def otel(received: Received, **settings: Any) -> dict[str, Any]:
    return {"name": "otel", "endpoint": received.url, **settings}


def metadata(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(span.attributes["metadata"])
    return found


def of_text(received: Received, text: str) -> list[Span]:
    """The spans whose prompt asks about a text."""
    asked = f"Review: {text}\n"
    return [s for s in received.spans if asked in s.attributes.get("input.value", "")]


def test_a_call_is_a_span_in_openinferences_terms() -> None:
    with serving(seconds=0.05, tier="flex") as s, receiving() as received:
        run(s.url, otel(received, project="mine"))
    (span,) = of_text(received, "I hate it")
    prompt_tokens = span.attributes["llm.token_count.prompt"]
    assert prompt_tokens > 20
    assert span.name == "chat any"
    assert (span.failed, span.message) == (False, "")
    assert 0.05 <= span.seconds < 10
    assert span.resource["service.name"] == "sentikit"
    assert span.resource["openinference.project.name"] == "mine"
    attributes = span.attributes
    assert attributes["openinference.span.kind"] == "LLM"
    assert attributes["session.id"] == "a"
    assert attributes["llm.system"] == "openai"
    assert attributes["llm.model_name"] == "any"
    assert attributes["llm.input_messages.0.message.role"] == "user"
    assert attributes["llm.input_messages.0.message.content"] == attributes["input.value"]
    assert attributes["llm.output_messages.0.message.role"] == "assistant"
    assert "negative" in attributes["llm.output_messages.0.message.content"]
    completion = attributes["llm.token_count.completion"]
    assert attributes["llm.token_count.total"] == prompt_tokens + completion
    sent = json.loads(attributes["llm.invocation_parameters"])
    assert (sent["temperature"], sent["response_format"]["type"]) == (0.0, "json_schema")
    assert "messages" not in sent
    found = metadata(span)
    assert (found["label"], found["valid"], found["cached"], found["retries"]) == (
        "negative",
        True,
        False,
        0,
    )
    assert found["service_tier"] == "flex"
    assert abs(sum(found["probabilities"].values()) - 1) < 1e-6


def test_the_costs_of_spans_sum_to_the_runs_cost() -> None:
    with serving() as s, receiving() as received:
        run(s.url, otel(received))
    manifest = json.loads(Path("runs/a/manifest.json").read_text())
    billed = [span.attributes.get("llm.cost.total", 0) for span in received.spans]
    assert sum(billed) == pytest.approx(manifest["paid_usd"])
    lines = Path("runs/a/predictions.jsonl").read_text().splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert sorted(metadata(span)["example_id"] for span in received.spans) == sorted(ids)


def test_failures_and_retries_are_spans_too() -> None:
    faults = {"hate": "400:It breaks our rules.", "read": "say:Hm."}
    with serving(faults={"3": "503"}, fault_words=faults) as s, receiving() as received:
        run(s.url, otel(received), texts=TEXTS[:3])
    failures = [span for span in received.spans if span.failed]
    assert {metadata(span)["failure"] for span in failures} == {"server", "rejected"}
    assert any("It breaks our rules" in span.message for span in failures)
    assert all("llm.token_count.total" not in span.attributes for span in failures)
    assert max(metadata(span)["retries"] for span in received.spans) == 1
    invalid = [s for s in received.spans if not s.failed and not metadata(s)["valid"]]
    assert invalid
    assert all(metadata(span)["label"] is None for span in invalid)


def test_a_cached_answer_is_not_billed_again() -> None:
    with serving() as s, receiving() as received:
        run(s.url, otel(received), output="runs/a")
        first = len(received.spans)
        run(s.url, otel(received), output="runs/b")
    again = received.spans[first:]
    assert len(again) == len(TEXTS)
    assert all(metadata(span)["cached"] for span in again)
    assert all(metadata(span)["saved_usd"] > 0 for span in again)
    billing = ("llm.token_count", "llm.cost")
    assert not [name for span in again for name in span.attributes if name.startswith(billing)]


def test_a_resumed_run_reports_each_call_once() -> None:
    texts = [f"I love number {n}" for n in range(150)]
    with serving(seconds=0.2) as s, receiving() as received:
        with pytest.raises(Interrupted):
            run(s.url, otel(received), texts=texts, stop_requested=lambda: s.server.calls > 5)
        assert 0 < len(received.spans) < 150
        run(s.url, otel(received), texts=texts, resume=True)
    assert len(received.spans) == 150
    assert len({metadata(span)["example_id"] for span in received.spans}) == 150


def test_batch_answers_are_reported_when_fetched() -> None:
    with serving() as s, receiving() as received:
        run(s.url, otel(received), batch=True, texts=TEXTS[:3])
    assert [metadata(span)["cached"] for span in received.spans] == [False] * 3
    assert all(span.attributes["llm.cost.total"] > 0 for span in received.spans)


def test_texts_can_be_omitted_from_spans() -> None:
    faults = {"hate": "400:Refused because of: I hate it"}
    with serving(fault_words=faults) as s, receiving() as received:
        run(s.url, otel(received, texts=False))
    assert {metadata(s)["label"] for s in received.spans if not s.failed} == {"positive", "neutral"}
    assert [span.message for span in received.spans if span.failed] == ["rejected"]
    sent = b"".join(received.bodies)
    assert received.spans
    assert b"I love" not in sent
    assert b"I hate" not in sent
    assert b"Review" not in sent


def test_keys_are_never_part_of_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"api_key={KEY[::-1]}")
    faults = {"hate": f"400:Key {KEY} may not ask that."}
    with serving(key=KEY, fault_words=faults) as s, receiving() as received:
        run(s.url, otel(received))
    assert received.headers["api_key"] == KEY[::-1]
    assert "[OPENAI_API_KEY]" in next(span.message for span in received.spans if span.failed)
    sent = b"".join(received.bodies)
    assert KEY.encode() not in sent
    assert KEY[::-1].encode() not in sent
    files = [path for path in Path("runs").rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_the_standard_variable_names_the_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as s, receiving() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        run(s.url, "otel")
    assert len(received.spans) == len(TEXTS)


def test_nothing_is_sent_unless_a_collector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as s, receiving() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        llm = {"backend": "openai", "model": "any", "base_url": s.url, "prices": PRICES}
        run_prompt(
            make_components(dataset=write_reviews(), llm=llm), Path("runs/a"), LabellingOptions()
        )
    assert received.bodies == []


@pytest.mark.parametrize("status", [0, 400, 401])
def test_a_failing_collector_is_reported_once_and_the_run_continues(
    status: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with serving() as s, receiving(status or 200) as received:
        endpoint = received.url if status else "http://127.0.0.1:9"
        finished = run(s.url, {"name": "otel", "endpoint": endpoint})
    assert finished.totals.rows == len(TEXTS)
    lines = capfd.readouterr().err.splitlines()
    complaints = [line for line in lines if "did not reach the collector" in line]
    assert len(complaints) == 1
    assert complaints[0].startswith("The tracker 'otel' failed and is switched off")
    assert not [line for line in lines if "Traceback" in line or "Failed to export" in line[:20]]


def show(tracker: str) -> Result:
    write_reviews()
    dataset = "dataset={name: files, test: test.jsonl}"
    settings = [dataset, "llm={backend: openai, model: any}", f"trackers={tracker}"]
    arguments = ["prompt", "--recipe", "b3-gpt-4o-mini-zero-shot", "--show", "1"]
    for setting in settings:
        arguments += ["--set", setting]
    return CliRunner().invoke(sentikit, arguments)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("localhost", "must be an address such as http://localhost:4318"),
        (f"me:{KEY}@localhost:4318", "OTEL_EXPORTER_OTLP_HEADERS"),
        (f"http://me:{KEY}@[localhost", "OTEL_EXPORTER_OTLP_HEADERS"),
        (f"localhost?key={KEY}", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://localhost:four", "must be an address such as http://localhost:4318"),
        (f"http://user:{KEY}@localhost", "OTEL_EXPORTER_OTLP_HEADERS"),
        (f"http://localhost?key={KEY}", "OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_a_wrong_collector_address_is_refused_without_printing_it(
    endpoint: str, message: str
) -> None:
    result = show(f"{{name: otel, endpoint: '{endpoint}'}}")
    assert result.exit_code == 2
    assert message in result.stderr
    assert KEY not in result.output


def test_a_missing_otel_package_is_reported_before_any_query(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    from sentikit.registry import default_registry

    tracker = default_registry().load("register_trackers", "otel")
    for name in ("spans", "sending"):
        monkeypatch.delitem(sys.modules, f"sentikit.plugins.otel_tracker.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InputError, match=r"pip install 'sentikit\[otel\]'"):
        tracker(tracker.Settings())


def test_the_otel_tracker_passes_the_conformance_kit() -> None:
    from sentikit.registry import default_registry

    with receiving() as received:
        tracker = default_registry().load("register_trackers", "otel")
        check_tracker(tracker, {"endpoint": received.url})
    assert [span.failed for span in received.spans] == [False, True]
