"""Describing datasets: counts, repeated texts, leaks, lengths, and what looks wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentikit.plugins.dataset_description.description import (
    DatasetDescription,
    TokenLengths,
    describe_dataset,
    estimate_tokens,
)

from sentikit.datasets.examples import Examples, text_hashes
from sentikit.datasets.tables import read_rows

CLASSES = ("negative", "neutral", "positive")


def examples(
    texts: Sequence[str],
    labels: Sequence[str | None] | None = None,
    sources: Sequence[str | None] | str | None = None,
) -> Examples:
    return Examples.from_columns(texts, labels, sources)


def describe(**splits: Examples) -> DatasetDescription:
    return describe_dataset("mine", CLASSES, splits.items())


class TestCounts:
    def test_counts_are_by_label_and_by_source(self) -> None:
        labels = ["negative", "positive", None, "positive"]
        sources = ["a", "b", "b", None]
        split = describe(test=examples(["1", "2", "3", "4"], labels, sources)).splits[0]
        assert (split.name, split.examples, split.unlabelled, split.without_source) == (
            "test",
            4,
            1,
            1,
        )
        assert split.labels == {"negative": 1, "neutral": 0, "positive": 2}
        assert list(split.sources) == ["b", "a"]
        assert split.sources["b"].examples == 2
        assert split.sources["b"].labels == {"negative": 0, "neutral": 0, "positive": 1}
        assert split.sources["b"].unlabelled == 1

    def test_only_selected_examples_are_counted(self) -> None:
        whole = examples(["a", "b", "c"], ["negative", "neutral", "positive"])
        split = describe(train=whole.select([2, 0])).splits[0]
        assert split.examples == 2
        assert split.labels == {"negative": 1, "neutral": 0, "positive": 1}
        assert split.fingerprint == whole.select([2, 0]).fingerprint()

    def test_counts_cover_more_rows_than_a_batch(self) -> None:
        texts = [f"text {number}" for number in range(25_000)]
        advances: list[int] = []
        split = describe_dataset(
            "mine", CLASSES, [("train", examples([*texts, texts[0]]))], advance=advances.append
        ).splits[0]
        assert (split.examples, split.duplicates) == (25_001, 1)
        assert sum(advances) == 25_001
        assert len(advances) > 1


class TestRepeatedTexts:
    def test_duplicates_ignore_case_white_space_and_unicode_form(self) -> None:
        texts = ["So  good", "so good ", "SO GOOD", "caf\u00e9", "cafe\u0301", "other"]
        assert describe(train=examples(texts)).splits[0].duplicates == 3

    def test_conflicts_are_texts_with_several_labels(self) -> None:
        texts = ["a", "A", "a", "b", "b", "c", "C"]
        labels = ["negative", "positive", "negative", "neutral", "neutral", "negative", None]
        split = describe(train=examples(texts, labels)).splits[0]
        assert split.conflicts == 2
        assert "2 texts occur with more than one label." in split.problems

    def test_texts_shared_by_splits_are_leaks(self) -> None:
        found = describe(
            train=examples(["one", "two", "three"]),
            validation=examples(["four", "TWO", " two", "Three"]),
            test=examples(["five"]),
        ).leaks
        assert [(leak.first, leak.second) for leak in found] == [("train", "validation")]
        assert (found[0].texts, found[0].examples, found[0].example) == (2, 3, "TWO")

    @given(st.lists(st.text(st.sampled_from("aAbB \n"), max_size=4)))
    def test_duplicates_by_hash_equal_duplicates_by_text(self, texts: list[str]) -> None:
        hashes = text_hashes(texts)
        assert hashes.dtype == np.uint64
        canonical = [" ".join(text.lower().split()) for text in texts]
        assert len(set(hashes.tolist())) == len(set(canonical))


class TestLengths:
    def test_quantiles_are_lengths_that_occur(self) -> None:
        split = describe_dataset(
            "mine",
            CLASSES,
            [("train", examples([f"{n} " + "x" * n for n in range(1, 101)]))],
            count_tokens=lambda texts: [int(text.split()[0]) for text in texts],
        ).splits[0]
        assert split.tokens == TokenLengths(p50=50, p95=95, p99=99, max=100)

    def test_the_description_says_whether_lengths_are_estimated(self) -> None:
        assert describe(train=examples(["a"])).tokens_are_estimated
        counted = describe_dataset("mine", CLASSES, [], count_tokens=lambda texts: [])
        assert not counted.tokens_are_estimated

    @pytest.mark.parametrize(
        ("text", "tokens"), [("I love it!", 6), ("", 2), ("uninteresting", 6), ("don't", 5)]
    )
    def test_estimated_lengths_count_words_word_pieces_and_punctuation(
        self, text: str, tokens: int
    ) -> None:
        assert estimate_tokens([text]) == [tokens]

    def test_the_estimate_is_close_to_electras_tokenizer(self, shared_data: Path) -> None:
        from tokenizers import Tokenizer

        folder = shared_data / "electra-classifier-checkpoint"
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        with read_rows(shared_data / "merged" / "test.csv") as rows:
            texts = [str(row["sentence"]) for _, row in rows]
        real = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch(texts)])
        estimated = np.array(estimate_tokens(texts))
        assert abs((estimated - real).mean()) < 0.3
        for share in (0.5, 0.95, 0.99):
            assert abs(np.quantile(estimated, share) - np.quantile(real, share)) <= 1


class TestProblems:
    def test_a_good_split_has_no_problems(self) -> None:
        good = examples(["a", "b", "c"], ["negative", "neutral", "positive"])
        assert describe(train=good).splits[0].problems == ()

    def test_a_split_with_a_single_class_is_a_problem(self) -> None:
        problems = describe(train=examples(["a", "b"], ["neutral"] * 2)).splits[0].problems
        assert problems == ("All labels are 'neutral': a model can learn nothing from it.",)

    def test_a_missing_class_is_a_problem(self) -> None:
        split = describe(train=examples(["a", "b"], ["neutral", "positive"])).splits[0]
        assert split.problems == ("No example is labelled 'negative'.",)

    def test_missing_labels_and_empty_texts_are_problems(self) -> None:
        split = describe(train=examples(["a", " "])).splits[0]
        assert split.empty_texts == 1
        assert split.problems == (
            "2 of 2 examples have no label.",
            "1 of 2 texts are empty.",
        )

    def test_an_empty_split_is_a_problem(self) -> None:
        split = describe(train=examples([])).splits[0]
        assert (split.examples, split.tokens) == (0, None)
        assert split.problems == ("It has no examples.",)


def test_a_description_converts_to_json() -> None:
    description = describe(train=examples(["a"], ["neutral"], "s"), test=examples(["A"]))
    value = json.loads(json.dumps(description.to_json(), allow_nan=False))
    assert value["name"] == "mine"
    assert value["splits"][0]["sources"]["s"]["labels"]["neutral"] == 1
    assert value["splits"][0]["tokens"]["max"] == 3
    assert value["leaks"] == [
        {"first": "train", "second": "test", "texts": 1, "examples": 1, "example": "A"}
    ]


def test_the_studys_merged_splits_are_described(shared_data: Path) -> None:
    splits = {}
    for name in ("validation", "test"):
        with read_rows(shared_data / "merged" / f"{name}.csv") as rows:
            columns = list(
                zip(*(c for _, c in rows.cells("sentence", "label", "source")), strict=True)
            )
        splits[name] = Examples.from_columns(*columns)
    description = describe(**splits)
    assert [split.examples for split in description.splits] == [5421, 6530]
    assert description.splits[1].labels == {"negative": 2352, "neutral": 1829, "positive": 2349}
    assert {s: d.examples for s, d in description.splits[1].sources.items()} == {
        "dynasent_r1": 3600,
        "sst_local": 2210,
        "dynasent_r2": 720,
    }
    assert description.leaks == ()
