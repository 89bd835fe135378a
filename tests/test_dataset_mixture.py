"""Mixtures of datasets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import sentikit
from sentikit.errors import InputError
from sentikit.extension import OpenedDataset

PATHS = {"sst": "trees", "dynasent": "dynasent"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten training trees, two of each label, and the demo dataset is installed."""
    (tmp_path / "trees").mkdir()
    trees = "".join(
        f"({label} (2 film) (2 {label}{copy}))\n" for label in range(5) for copy in "ab"
    )
    (tmp_path / "trees" / "train.txt").write_text(trees)
    (tmp_path / "trees" / "test.txt").write_text("(4 lovely)\n(2 film)\n")
    return tmp_path


def mixture(*parts: dict[str, Any], **options: Any) -> OpenedDataset:
    return sentikit.open_dataset({"name": "mixture", "parts": list(parts), **options})


def refusal(*parts: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        mixture(*parts, **options).split("train")
    return caught.value.message


class TestParts:
    def test_splits_and_rows_are_those_of_the_members_in_order(self, folder: Path) -> None:
        sst = {"name": "sst", "path": str(folder / "trees")}
        both = mixture(sst, {"name": "demo"})
        demo = sentikit.open_dataset("demo")
        assert both.splits == ("train", "validation", "test")
        assert len(both.split("train")) == 10 + len(demo.split("train"))
        assert both.split("train").texts[:2] == ["film 0a", "film 0b"]
        assert both.split("validation").fingerprint() == demo.split("validation").fingerprint()
        assert both.split("test").texts[:2] == ["lovely", "film"]

    def test_each_member_maps_labels_by_its_own_settings(self, folder: Path) -> None:
        sst = {"name": "sst", "path": str(folder / "trees")}
        assert set(mixture(sst).split("train").labels) == {"negative", "neutral", "positive"}
        five = mixture({**sst, "labels": "five"}, labels="five")
        assert len(set(five.split("train").labels)) == 5
        odd = mixture({**sst, "label_map": {"very negative": "neutral"}})
        assert odd.split("train").labels[0] == "neutral"

    def test_only_the_labels_of_chosen_rows_must_be_known(self, folder: Path) -> None:
        rows = "".join(f"text {n},{'neutral' if n == 57 else 'positive'}\n" for n in range(100))
        (folder / "train.csv").write_text(f"text,label\n{rows}")
        part = {"name": "files", "train": str(folder / "train.csv"), "labels": "bin_pos"}
        chosen = {
            seed: sentikit.open_dataset({**part, "sample": 0.5, "seed": seed}).split("train").texts
            for seed in range(10)
        }
        without = next(seed for seed, texts in chosen.items() if "text 57" not in texts)
        with_it = next(seed for seed, texts in chosen.items() if "text 57" in texts)
        assert len(mixture({**part, "sample": 0.5, "seed": without}).split("train")) == 50
        message = refusal({**part, "sample": 0.5, "seed": with_it})
        assert "the label 'non-positive' is not one of" in message
        assert f"row {chosen[with_it].index('text 57') + 1} of 'train'" in message

    def test_only_chosen_rows_must_have_a_label(self, folder: Path) -> None:
        rows = "".join(f"text {n},{'' if n == 57 else 'positive'}\n" for n in range(100))
        (folder / "train.csv").write_text(f"text,label\n{rows}")
        part = {"name": "files", "train": str(folder / "train.csv"), "weight": 0.5}
        drawn = set()
        for seed in range(10):
            opened = mixture({**part, "seed": seed})
            texts = opened.split("train", labelled=False).texts
            if "text 57" in texts:
                place = f"row {texts.index('text 57') + 1} of 'train'"
                with pytest.raises(InputError, match=f"{place}: the label is missing"):
                    opened.split("train")
            else:
                assert len(opened.split("train")) == 50
            drawn.add("text 57" in texts)
        assert drawn == {True, False}

    def test_members_accept_the_core_options(self, folder: Path) -> None:
        sst = {"name": "sst", "path": str(folder / "trees")}
        swapped = mixture({**sst, "splits": {"train": "test", "test": None}})
        assert swapped.splits == ("train",)
        assert swapped.split("train").texts == ["lovely", "film"]
        assert len(mixture({**sst, "sample": 0.5}).split("train")) == 5
        assert len(mixture(sst, validation_holdout=3).split("validation")) == 3

    def test_a_mixture_may_hold_mixtures(self, folder: Path) -> None:
        sst = {"name": "sst", "path": str(folder / "trees")}
        inner = {"name": "mixture", "parts": [sst], "weight": 2}
        assert len(mixture(inner).split("train")) == 20


class TestWeights:
    def test_integer_weights_repeat_only_the_training_split(self, folder: Path) -> None:
        sst = {"name": "sst", "path": str(folder / "trees"), "weight": 3}
        train = mixture(sst).split("train")
        assert set(Counter(train.texts).values()) == {3}
        assert set(Counter(train.ids).values()) == {3}
        assert len(mixture(sst).split("test")) == 2

    def test_a_weight_of_one_half_draws_half_with_the_members_seed(self, folder: Path) -> None:
        def drawn(**options: Any) -> list[str]:
            sst = {"name": "sst", "path": str(folder / "trees"), "weight": 0.5}
            return mixture({**sst, **options}).split("train").texts

        assert len(drawn()) == 5
        assert drawn() == drawn()
        assert len({tuple(drawn(seed=seed)) for seed in range(8)}) > 1

    def test_a_weight_of_one_and_a_half_repeats_and_draws(self, folder: Path) -> None:
        sst = {"name": "sst", "path": str(folder / "trees"), "weight": 1.5}
        assert Counter(Counter(mixture(sst).split("train").texts).values()) == {1: 5, 2: 5}


class TestIds:
    def test_the_same_text_in_two_members_gets_two_ids(self, folder: Path) -> None:
        sst = {"name": "sst", "path": str(folder / "trees")}
        test = mixture(sst, sst).split("test")
        assert test.ids[2:] == [f"{id_}-2" for id_ in test.ids[:2]]

    def test_ids_within_a_member_are_those_of_its_dataset(self, folder: Path) -> None:
        sst = {"name": "sst", "path": str(folder / "trees")}
        assert mixture(sst).split("test").ids == sentikit.open_dataset(sst).split("test").ids


class TestRefusals:
    def test_all_problems_of_the_members_are_reported_at_once(self) -> None:
        message = refusal({"name": "sts"}, {"name": "demo", "weight": 0}, {"name": "demo", "a": 1})
        assert "part 1 (sts)" in message
        assert "Did you mean 'sst'?" in message
        assert "part 2 (demo): weight must be a number above 0" in message
        assert "part 3 (demo): a: unknown key" in message

    @pytest.mark.parametrize("weight", [0, -1, "two", True, float("nan"), 5000])
    def test_meaningless_weights_are_refused(self, weight: Any) -> None:
        assert "weight must be a number" in refusal({"name": "demo", "weight": weight})

    def test_a_mixture_without_members_is_refused(self) -> None:
        assert "parts" in refusal()
        assert "parts" in refusal("demo")

    def test_a_bad_row_is_named_by_member_and_line(self, folder: Path) -> None:
        (folder / "trees" / "train.txt").write_text("(3 fine)\n(3 broken\n")
        message = refusal({"name": "demo"}, {"name": "sst", "path": str(folder / "trees")})
        assert message.startswith(f"{folder / 'trees' / 'train.txt'}, line 2: 1 ')' missing")


class TestTheBenchmarkRecipe:
    def test_the_benchmark_recipe_has_12864_training_examples(self, shared_data: Path) -> None:
        dataset = mixture(
            {"name": "sst", "path": str(shared_data / "sst")},
            {
                "name": "dynasent",
                "path": str(shared_data / "dynasent-v1.1"),
                "splits": {"train": "validation", "validation": None, "test": "test"},
            },
            validation_holdout=700,
            seed=13,
        )
        sizes = {split: len(dataset.split(split)) for split in dataset.splits}
        # A text that is held out stood twice in training.
        assert sizes == {"train": 12_864 - 701, "validation": 1_101 + 700, "test": 6_530}
        merged = sentikit.open_dataset({"name": "merged", "path": shared_data}).split("test")
        assert Counter(dataset.split("test").texts) == Counter(merged.texts)
