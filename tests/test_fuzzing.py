"""Files that a fuzzer wrote: whatever they hold, nothing fails but in a sentence."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentikit.classifiers.loading import load_model
from sentikit.datasets.tables import read_rows
from sentikit.errors import SentikitError
from sentikit.recipe.resolving import resolve_recipe
from sentikit.recipe_checks import recipe_problems
from sentikit.registry import default_registry
from sentikit.runs.listing import find_runs, read_summary

pytestmark = pytest.mark.slow
MANY = settings(
    max_examples=int(os.environ.get("SENTIKIT_FUZZ_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
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
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5)
)


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


@MANY
@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_a_model_folder_of_any_config_is_refused(config: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(written(config))
        with pytest.raises(SentikitError):
            load_model(folder)
