"""Recorded rows find their examples by text, occurrence and id."""

from __future__ import annotations

import numpy as np
import pytest

from sentikit import Examples, InputError
from sentikit.runs.alignment import align, align_all

WANTED = Examples.from_columns(["a", "b", "a", "c"])


def test_rows_in_the_same_order_are_paired_one_to_one() -> None:
    assert align(WANTED, Examples.from_columns(["a", "b", "a", "c"])).tolist() == [0, 1, 2, 3]


def test_repeated_texts_in_another_order_are_paired_by_occurrence() -> None:
    recorded = Examples.from_columns(["c", "a", "a", "b"])
    assert align(WANTED, recorded).tolist() == [1, 3, 2, 0]


def test_equal_texts_are_paired_by_id() -> None:
    wanted = Examples.from_columns(["same", "same"], ids=["x", "y"])
    recorded = Examples.from_columns(["same", "same"], ids=["y", "x"])
    other_order = recorded.select([0, 1, 1])
    assert align(wanted, other_order).tolist() == [1, 0]


def test_a_subset_and_a_superset_are_aligned() -> None:
    assert align(WANTED.select([3]), WANTED).tolist() == [3]
    assert align(WANTED, WANTED.select([3])).tolist() == [-1, -1, -1, 0]


def test_case_space_and_unicode_form_are_ignored_unless_they_tell_texts_apart() -> None:
    wanted = Examples.from_columns(["Caf\u00e9 ", "GREAT", "Great"])
    recorded = Examples.from_columns(["Great", "GREAT", "cafe\u0301"])
    assert align(wanted, recorded).tolist() == [2, 1, 0]


def test_rows_without_texts_are_aligned_by_id() -> None:
    wanted = Examples.from_columns(["one", "two"], ids=["1", "2"])
    recorded = Examples.from_columns(["", ""], ids=["2", "1"])
    assert align(wanted, recorded, by_id_alone=True).tolist() == [1, 0]


def test_a_row_is_paired_only_once() -> None:
    assert align(Examples.from_columns(["a", "a"]), WANTED.select([0])).tolist() == [0, -1]


def test_a_mismatch_is_refused_with_count_and_first_difference() -> None:
    recorded = Examples.from_columns(["a", "x", "a", "y"])
    with pytest.raises(InputError) as caught:
        align_all(WANTED, recorded, ("demo/test", "old.csv"))
    assert caught.value.message == (
        "old.csv does not belong to demo/test: 2 of 4 examples are not in it. "
        "The first is row 2, 'b', where it has 'x'."
    )
    with pytest.raises(InputError, match="row 3, 'a'; it has 2 rows"):
        align_all(WANTED, WANTED.select([0, 1]), ("demo/test", "old.csv"))


def test_many_rows_are_aligned_in_any_order() -> None:
    texts = [f"text {number % 900}" for number in range(20_000)]
    wanted = Examples.from_columns(texts)
    shuffled = wanted.select(np.random.default_rng(0).permutation(len(texts)))
    rows = align(wanted, shuffled)
    assert sorted(rows.tolist()) == list(range(20_000))
    assert shuffled.select(rows).ids == wanted.ids
