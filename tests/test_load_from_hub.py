"""Datasets from the Hugging Face hub, served by a stand-in with the hub's API."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import PARQUET_REVISION, HubServer, LoadingProcess, Repository, serve

pytestmark = pytest.mark.slow

SPLITS = ("train", "validation", "test")


def json_lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(schema: pa.Schema | None = None, **columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema), buffer)
    return buffer.getvalue()


def sst5() -> Repository:
    rows = [
        {"text": "a gorgeous , witty film", "label": 4, "label_text": "very positive"},
        {"text": "it 's fine", "label": 3, "label_text": "positive"},
        {"text": "a film", "label": 2, "label_text": "neutral"},
        {"text": "a bit dull", "label": 1, "label_text": "negative"},
        {"text": "no good at all", "label": 0, "label_text": "very negative"},
    ]
    dev = {"text": "only in dev", "label": 2, "label_text": "neutral"}
    files = {"train.jsonl": rows, "dev.jsonl": [dev], "test.jsonl": rows[:2]}
    return Repository(
        {"main": {"README.md": b"# SST-5\n", **{n: json_lines(*r) for n, r in files.items()}}}
    )


def stanford_sst() -> Repository:
    scores = pa.schema([("sentence", pa.string()), ("label", pa.float32())])
    content = {
        "sentence": ["lowest", "at 0.2", "above", "middle", "at 0.6", "0.8", "top"],
        "label": [0.0, 0.2, 0.2001, 0.5, 0.6, 0.8, 1.0],
    }
    conversion = {
        f"{config}/{split}/0000.parquet": parquet(scores, **content)
        for config in ("default", "dictionary", "ptb")
        for split in SPLITS
    }
    script = {"README.md": b"---\nlicense: unknown\n---\n", "sst.py": b"raise SystemExit(1)\n"}
    return Repository({"main": script, PARQUET_REVISION: conversion})


def dynasent() -> Repository:
    conversion = {}
    for number in (1, 2):
        for split in SPLITS:
            conversion[f"dynabench.dynasent.r{number}.all/{split}/0000.parquet"] = parquet(
                id=[str(n) for n in range(4)],
                sentence=[f"round {number} {split} {n}" for n in range(4)],
                text_id=[f"r{number}-{split}-{n}" for n in range(4)],
                gold_label=["positive", "mixed", None, "neutral"],
                label_distribution=[{"positive": ["w1"], "mixed": []}] * 4,
            )
    return Repository({"main": {"dynasent.py": b"x = 1\n"}, PARQUET_REVISION: conversion})


def merged() -> Repository:
    header = "sentence,label,source,split\n"
    rows = 'Rooms are small.,negative,dynasent_r1,{0}\n"Good , good .",positive,sst_local,{0}\n'
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n"
    card += "".join(f"  - split: {split}\n    path: {split}.csv\n" for split in SPLITS) + "---\n"
    files = {f"{split}.csv": (header + rows.format(split)).encode() for split in SPLITS}
    return Repository({"main": {"README.md": card.encode(), **files}})


def tweets() -> Repository:
    train = json_lines(
        {"id": "1", "text": "so happy", "label": 2, "label_text": "positive"},
        {"id": "2", "text": "", "label": 1, "label_text": "neutral"},
        {"id": "3", "text": "meh", "label": 1, "label_text": "neutral"},
    )
    test = json_lines({"id": "4", "text": "so sad", "label": 0, "label_text": "negative"})
    return Repository({"main": {"train.jsonl": train, "test.jsonl": test}})


def with_class_labels() -> Repository:
    """Two configurations, label names in the card, the hub's usual layout for Parquet."""
    card = """---
dataset_info:
- config_name: phones
  features:
  - name: Review
    dtype: string
  - name: label
    dtype: {class_label: {names: {'0': neg, '1': pos}}}
  - name: domain
    dtype: string
- config_name: books
  features:
  - name: text
    dtype: string
  - name: label
    dtype: string
configs:
- config_name: phones
  data_files:
  - {split: train, path: phones/train-*}
  - {split: dev, path: phones/dev-*}
  - {split: unsupervised, path: phones/unsupervised-*}
- config_name: books
  data_files: books/*
---
"""
    files = {
        f"phones/{split}-00000-of-00001.parquet": parquet(
            Review=[f"{split} good", f"{split} bad"], label=labels, domain=["phones", "phones"]
        )
        for split, labels in (("train", [1, 0]), ("dev", [0, 1]), ("unsupervised", [-1, -1]))
    }
    books = {"books/train.csv": b"text,label\nfine,pos\n"}
    return Repository({"main": {"README.md": card.encode(), **files, **books}})


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    repositories = {
        "SetFit/sst5": sst5(),
        "stanfordnlp/sst": stanford_sst(),
        "dynabench/dynasent": dynasent(),
        "jbeno/sentiment_merged": merged(),
        "mteb/tweet_sentiment_extraction": tweets(),
        "owner/class-labels": with_class_labels(),
        "owner/gated": Repository(sst5().revisions, gated=True),
        "owner/broken": Repository({"main": {"train.jsonl": b'{"text": "a"}\n{"text": \n'}}),
        "owner/no-text": Repository({"main": {"train.csv": b"alpha,beta\n1,2\n"}}),
        "owner/nothing": Repository({"main": {"README.md": b"# empty\n"}}),
    }
    with serve(repositories) as server:
        yield server


@pytest.fixture(scope="module")
def process(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadingProcess]:
    with LoadingProcess(hub, tmp_path_factory.mktemp("cache")) as running:
        yield running


def texts_and_labels(rows: list[list[Any]]) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in rows]


class TestTheBundledDatasets:
    def test_sst_is_setfit_sst5_by_default_with_five_labels(self, process: LoadingProcess) -> None:
        assert process.splits(name="sst") == ["train", "validation", "test"]
        rows = process.rows("train", name="sst", labels="five")
        assert texts_and_labels(rows) == [
            ("a gorgeous , witty film", "very positive"),
            ("it 's fine", "positive"),
            ("a film", "neutral"),
            ("a bit dull", "negative"),
            ("no good at all", "very negative"),
        ]
        assert {row[2] for row in rows} == {"sst"}

    def test_sst_has_three_labels_by_default_and_its_dev_split_is_validation(
        self, process: LoadingProcess
    ) -> None:
        assert [row[1] for row in process.rows("train", name="sst")] == [
            *("positive", "positive", "neutral", "negative", "negative")
        ]
        assert texts_and_labels(process.rows("validation", name="sst")) == [
            ("only in dev", "neutral")
        ]

    def test_treebank_scores_become_five_labels_with_inclusive_upper_bounds(
        self, process: LoadingProcess
    ) -> None:
        rows = process.rows("test", name="sst", hub="stanfordnlp", labels="five")
        assert texts_and_labels(rows) == [
            ("lowest", "very negative"),
            ("at 0.2", "very negative"),
            ("above", "negative"),
            ("middle", "neutral"),
            ("at 0.6", "neutral"),
            ("0.8", "positive"),
            ("top", "very positive"),
        ]

    def test_dynasent_concatenates_its_rounds_without_mixed_and_null_labels(
        self, process: LoadingProcess
    ) -> None:
        assert process.rows("validation", name="dynasent") == [
            ["round 1 validation 0", "positive", "dynasent_r1", "r1-validation-0"],
            ["round 1 validation 3", "neutral", "dynasent_r1", "r1-validation-3"],
            ["round 2 validation 0", "positive", "dynasent_r2", "r2-validation-0"],
            ["round 2 validation 3", "neutral", "dynasent_r2", "r2-validation-3"],
        ]

    def test_dynasent_keeps_mixed_when_asked(self, process: LoadingProcess) -> None:
        section = {"name": "dynasent", "ternary": False, "rounds": [2]}
        rows = process.rows("train", **section, label_map={"mixed": "neutral"})
        assert [row[3] for row in rows] == ["r2-train-0", "r2-train-1", "r2-train-3"]
        message, _ = process.refusal("train", **section)
        assert "row 2 of dynabench.dynasent.r2.all (train): the label 'mixed'" in message

    def test_merged_keeps_order_and_sources_and_makes_ids_from_texts(
        self, process: LoadingProcess
    ) -> None:
        assert [row[:3] for row in process.rows("test", name="merged")] == [
            ["Rooms are small.", "negative", "dynasent_r1"],
            ["Good , good .", "positive", "sst_local"],
        ]
        ids = [row[3] for row in process.rows("test", name="merged")]
        assert ids == [row[3] for row in process.rows("train", name="merged")]

    def test_tweets_have_no_validation_and_no_empty_text(self, process: LoadingProcess) -> None:
        assert process.splits(name="tweet") == ["train", "test"]
        assert texts_and_labels(process.rows("train", name="tweet")) == [
            ("so happy", "positive"),
            ("meh", "neutral"),
        ]
        held_out = process.rows("validation", name="tweet", validation_holdout=1)
        assert len(held_out) == 1


class TestAnyDataset:
    def test_columns_label_names_and_splits_are_found(self, process: LoadingProcess) -> None:
        section = {"name": "hub", "path": "owner/class-labels", "config": "phones"}
        assert process.splits(**section) == ["train", "validation", "unsupervised"]
        assert [row[:3] for row in process.rows("validation", **section)] == [
            ["dev good", "negative", "phones"],
            ["dev bad", "positive", "phones"],
        ]

    def test_withheld_labels_are_none(self, process: LoadingProcess) -> None:
        section = {"name": "hub", "path": "owner/class-labels", "config": "phones"}
        rows = process.rows("unsupervised", labelled=False, **section)
        assert [row[1] for row in rows] == [None, None]

    def test_columns_can_be_named_in_the_recipe(self, process: LoadingProcess) -> None:
        section = {"name": "hub", "path": "dynabench/dynasent", "revision": PARQUET_REVISION}
        section |= {"config": "dynabench.dynasent.r1.all", "source": "text_id"}
        section |= {"text": "id", "label": "gold_label", "label_map": {"mixed": "neutral"}}
        rows = process.rows("test", labelled=False, **section)
        assert [row[:3] for row in rows] == [
            ["0", "positive", "r1-test-0"],
            ["1", "neutral", "r1-test-1"],
            ["2", None, "r1-test-2"],
            ["3", "neutral", "r1-test-3"],
        ]

    def test_numeric_labels_without_names_need_a_label_map(self, process: LoadingProcess) -> None:
        section = {"name": "hub", "path": "SetFit/sst5", "label": "label"}
        message, exit_code = process.refusal("train", **section)
        assert exit_code == 2
        assert message.startswith("row 1 of SetFit/sst5 (train): the label '4' is not one of")
        names = ["very negative", "negative", "neutral", "positive", "very positive"]
        mapping = {str(number): name for number, name in enumerate(names)}
        assert process.rows("train", **section, label_map=mapping)[0][1] == "positive"


class TestRefusals:
    @pytest.mark.parametrize(
        ("section", "sentence"),
        [
            ({"path": "owner/unknown"}, "There is no dataset 'owner/unknown'"),
            ({"path": "SetFit/sst5", "revision": "v9"}, "has no revision 'v9'"),
            ({"path": "SetFit/sst5", "config": "defualt"}, "Did you mean 'default'?"),
            ({"path": "owner/class-labels"}, "choose one with config: books, phones"),
            ({"path": "owner/gated"}, "is gated. Request access"),
            ({"path": "stanfordnlp/sst"}, "revision: refs/convert/parquet"),
            (
                {"path": "dynabench/dynasent", "revision": PARQUET_REVISION},
                "config: dynabench.dynasent.r1.all, dynabench.dynasent.r2.all",
            ),
            (
                {"path": "stanfordnlp/sst", "revision": PARQUET_REVISION, "config": "defualt"},
                "has no config 'defualt'. Did you mean 'default'?",
            ),
            ({"path": "owner/broken"}, "A file of the dataset 'owner/broken' is malformed"),
            ({"path": "owner/no-text"}, "No text column in owner/no-text"),
            ({"path": "SetFit/sst5", "text": "txet"}, "no column 'txet' (text). Did you mean"),
            ({"path": "owner/nothing"}, "cannot be read as a dataset"),
            ({"path": "a b/c"}, "'a b/c' is neither a repository id"),
            ({"path": "./nowhere"}, "./nowhere is not a folder"),
        ],
    )
    def test_wrong_dataset_names_and_broken_data_exit_2(
        self, process: LoadingProcess, section: dict[str, str], sentence: str
    ) -> None:
        message, exit_code = process.refusal("train", name="hub", **section)
        assert sentence in message
        assert "\n" not in message
        assert exit_code == 2

    def test_a_hub_that_fails_exits_1(self, tmp_path: Path) -> None:
        with serve({}) as broken:
            broken.broken = 503
            with LoadingProcess(broken, tmp_path / "cache") as process:
                message, exit_code = process.refusal("train", name="sst")
        assert "failed on the dataset 'SetFit/sst5' (HTTP 503)" in message
        assert exit_code == 1


class TestWithoutNetwork:
    def test_an_unreachable_hub_is_reported_at_once_with_a_remedy(self, tmp_path: Path) -> None:
        nowhere = HubServer({}, "http://127.0.0.1:9")
        with LoadingProcess(nowhere, tmp_path / "cache") as process:
            process.splits(name="sst")
            start = time.monotonic()
            message, exit_code = process.refusal("train", name="dynasent")
            elapsed = time.monotonic() - start
        assert exit_code == 1
        assert "'dynabench/dynasent' is not on this machine" in message
        assert "dataset.path" in message
        assert "HF_HUB_OFFLINE=1" in message
        assert elapsed < 10

    def test_a_dataset_in_the_cache_loads_offline(self, hub: HubServer, tmp_path: Path) -> None:
        sections = (
            {"name": "sst"},
            {"name": "sst", "hub": "stanfordnlp"},
            {"name": "dynasent", "rounds": [1]},
            {"name": "merged"},
            {"name": "hub", "path": "owner/class-labels", "config": "phones"},
        )
        with LoadingProcess(hub, tmp_path / "cache") as process:
            online = [process.rows("train", **section) for section in sections]
        nowhere = HubServer({}, "http://127.0.0.1:9")
        with LoadingProcess(nowhere, tmp_path / "cache", HF_HUB_OFFLINE="1") as process:
            assert [process.rows("train", **section) for section in sections] == online
            message, exit_code = process.refusal("train", name="tweet")
        assert exit_code == 1
        assert "'mteb/tweet_sentiment_extraction' is not on this machine" in message
        assert "Unset HF_HUB_OFFLINE, or download the files" in message

    def test_another_cached_revision_never_replaces_the_requested_one_offline(
        self, tmp_path: Path
    ) -> None:
        files = {"train.jsonl": json_lines({"text": "first", "label_text": "positive"})}
        first = Repository({"main": files})
        files = {"train.jsonl": json_lines({"text": "second", "label_text": "positive"})}
        second = Repository({"main": files, "v1": first.revisions["main"]})
        section = {"name": "hub", "path": "owner/moving"}
        pinned = {**section, "revision": first.commit("main")}
        with serve({"owner/moving": second}) as hub:
            with LoadingProcess(hub, tmp_path / "cache") as process:
                assert process.rows("train", **pinned)[0][0] == "first"
                assert process.rows("train", **section)[0][0] == "second"
            with LoadingProcess(hub, tmp_path / "cache", HF_HUB_OFFLINE="1") as process:
                assert process.rows("train", **section)[0][0] == "second"
                message, exit_code = process.refusal("train", **pinned)
        assert "is not available offline" in message
        assert exit_code == 2


class TestDownloads:
    def test_only_the_requested_split_is_downloaded(self, hub: HubServer, tmp_path: Path) -> None:
        hub.requests.clear()
        with LoadingProcess(hub, tmp_path / "cache") as process:
            process.rows("test", name="dynasent", rounds=[2])
        downloads = [request for request in hub.requests if request.endswith(".parquet")]
        assert downloads
        assert all("dynasent.r2.all/test/" in request for request in downloads)

    def test_splits_of_bundled_datasets_need_no_network(self, tmp_path: Path) -> None:
        nowhere = HubServer({}, "http://127.0.0.1:9")
        with LoadingProcess(nowhere, tmp_path / "cache") as process:
            assert process.splits(name="dynasent") == list(SPLITS)

    def test_no_download_progress_bar_without_a_terminal(
        self, hub: HubServer, tmp_path: Path
    ) -> None:
        with LoadingProcess(hub, tmp_path / "cache") as process:
            process.rows("train", name="merged")
            process.rows("train", name="dynasent")
            assert "examples/s" not in process.errors
            assert "it/s" not in process.errors
