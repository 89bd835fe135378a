"""Fuzzed files: whatever they contain, they are read or refused in one sentence."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from llm_fixtures import openai_backend
from sentikit.plugins.openai_backend.responses import parse_body, read_error, retry_after

from sentikit import read_run
from sentikit.classifiers.loading import load_model
from sentikit.datasets.tables import read_rows
from sentikit.errors import SentikitError
from sentikit.extension import ChatRequest, Message, answer_problem
from sentikit.recipe.resolving import resolve_recipe
from sentikit.recipe_checks import recipe_problems
from sentikit.registry import default_registry
from sentikit.runs.listing import find_runs, read_summary

#: Inputs of each test, sought in parts: hypothesis keeps in memory all that it tried in one.
EXAMPLES = int(os.environ.get("SENTIKIT_FUZZ_EXAMPLES", "200"))
PART = 500
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("part")]
MANY = settings(
    max_examples=min(EXAMPLES, PART),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=(Phase.generate, Phase.shrink),
)

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        [10**400, 1e308, "train", "demo", "minilm", "linear", "status", "", "\x1b[2J"]
    )
)
KEYS = st.text(max_size=6) | st.sampled_from(
    "kind dataset encoder head training engine llm strategy cascade vote name status overall "
    "macro_f1 accuracy per_class by_source examples model epochs lr extends format version".split()
)
JSON: Any = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
#: Never asked: only its reader of answers is used.
BACKEND: Any = openai_backend("http://localhost:1/v1")


@pytest.fixture(params=range(-(-EXAMPLES // PART)))
def part() -> None:
    """Run a test once for each part of its inputs."""


def written(value: Any) -> str:
    return json.dumps(value)


@MANY
@given(st.dictionaries(KEYS, JSON, max_size=6) | JSON)
def test_a_recipe_of_any_content_is_checked_or_refused(values: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(written(values))
        with contextlib.suppress(SentikitError):
            recipe_problems(resolve_recipe(str(path)), default_registry())


@MANY
@given(st.text(max_size=200))
def test_a_recipe_of_any_text_is_checked_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(SentikitError):
            recipe_problems(resolve_recipe(str(path)), default_registry())


@MANY
@given(JSON, JSON)
def test_a_run_of_any_content_is_listed(manifest: Any, metrics: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        (run / "manifest.json").write_text(written(manifest))
        (run / "metrics.json").write_text(written(metrics))
        (run / "predictions.jsonl").write_text("")
        assert len(find_runs(Path(folder))) <= 1
        with contextlib.suppress(SentikitError):
            read_summary(run)


@MANY
@given(st.binary(max_size=300), st.sampled_from([".csv", ".tsv", ".jsonl", ".csv.gz", ".parquet"]))
def test_a_table_of_any_bytes_is_read_or_refused(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(SentikitError):
            for _ in read_rows(path):
                pass


RESULT_KEYS = st.sampled_from(
    "id text gold label prediction probabilities prob_positive prob_negative source cost answer "
    "encoder usage error X_test_sent y_test y_pred review classification match".split()
)
RESULT_VALUES = st.sampled_from(["positive", "negative", "1", 0.5]) | JSON


@MANY
@given(
    st.lists(st.dictionaries(RESULT_KEYS, RESULT_VALUES, min_size=2, max_size=7), max_size=4),
    st.sampled_from(["results.jsonl", "results.csv", "predictions.jsonl"]),
)
def test_a_results_file_of_any_content_is_read_or_refused(
    rows: list[dict[str, Any]], name: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        if path.suffix == ".csv":
            columns = sorted({key for row in rows for key in row})
            lines = [columns, *([written(row.get(key)) for key in columns] for row in rows)]
            with path.open("w", newline="") as stream:
                csv.writer(stream).writerows(lines)
        else:
            path.write_text("".join(f"{written(row)}\n" for row in rows))
        with contextlib.suppress(SentikitError):
            read_run(path)


@MANY
@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_a_model_folder_of_any_config_is_refused(config: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(written(config))
        with pytest.raises(SentikitError):
            load_model(folder)


ANSWER_KEYS = st.sampled_from(
    "choices message content text usage prompt_tokens completion_tokens total_tokens logprobs "
    "token logprob top_logprobs bytes finish_reason model service_tier tool_calls function "
    "arguments refusal output type id error code details prompt_tokens_details cached_tokens "
    "cost input_tokens output_tokens status reasoning_content".split()
)
ANSWER: Any = st.recursive(
    LEAVES | st.sampled_from(["positive", '{"label": "positive"}', -0.1, 1e400, -1, 2.5, "output"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANSWER_KEYS, inner, max_size=6),
    max_leaves=25,
)
MESSAGES = st.dictionaries(ANSWER_KEYS, ANSWER, max_size=5)
COMPLETIONS = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({"message": MESSAGES | ANSWER, "logprobs": ANSWER})
        )
    },
    optional={"usage": MESSAGES | ANSWER, "model": ANSWER, "service_tier": ANSWER},
)
RESPONSES = st.fixed_dictionaries(
    {"output": st.lists(MESSAGES | ANSWER)}, optional={"usage": MESSAGES | ANSWER}
)
HEADERS = st.dictionaries(
    st.sampled_from(
        "retry-after x-ratelimit-remaining-requests x-ratelimit-reset-requests "
        "x-ratelimit-remaining-tokens x-ratelimit-reset-tokens".split()
    ),
    st.text(max_size=12) | st.sampled_from(["1e400", "nan", "-1", "9" * 30, "1m30s", "6ms"]),
)


@MANY
@given(
    (COMPLETIONS | RESPONSES | ANSWER).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=200)
    | ANSWER.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\ndata: [DONE]"),
    HEADERS,
)
def test_a_servers_answer_of_any_content_is_read_into_our_types_or_refused(
    content: bytes, headers: dict[str, str]
) -> None:
    request = ChatRequest((Message("user", "I love it."),), ("negative", "neutral", "positive"))
    value = parse_body(content)
    read_error(value)
    retry_after(headers)
    if not isinstance(value, dict):
        return
    with contextlib.suppress(SentikitError):
        answer = BACKEND.read_answer(value, request, headers)
        assert answer_problem(answer, request.labels) == ""
