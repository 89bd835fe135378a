"""The core's treatment of any dataset: labels, splits, samples and held-out examples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sentikit import InputError, open_dataset

STARS = """text,stars,shop
fine indeed,5,a
bad,1,a
so so,3,b
good,4,b
awful,1,b
great,5,a
"""


@pytest.fixture(autouse=True)
def files() -> None:
    Path("stars.csv").write_text(STARS)
    rows = [f"text number {n},{('negative', 'neutral', 'positive')[n % 3]}" for n in range(100)]
    Path("hundred.csv").write_text("\n".join(["text,label", *rows]) + "\n")


def hundred(**options: Any) -> Any:
    return open_dataset({"name": "files", "train": "hundred.csv", **options})


def test_labels_are_mapped_to_classes() -> None:
    dataset = open_dataset(
        {
            "name": "files",
            "test": "stars.csv",
            "label": "stars",
            "source": "shop",
            "label_map": {1: "very negative", "3": "neutral", 4: "positive", 5: "very positive"},
        }
    )
    examples = dataset.split("test")
    assert examples.labels == [
        "positive",
        "negative",
        "neutral",
        "positive",
        "negative",
        "positive",
    ]
    assert examples.sources == ["a", "a", "b", "b", "b", "a"]


@pytest.mark.parametrize(
    ("template", "classes", "counts"),
    [
        ("neg_neu_pos", ("negative", "neutral", "positive"), [34, 33, 33]),
        ("bin_neg", ("non-negative", "negative"), [66, 34]),
        ("bin_neu", ("non-neutral", "neutral"), [67, 33]),
        ("bin_pos", ("non-positive", "positive"), [67, 33]),
    ],
)
def test_the_studys_label_templates_are_reproduced(
    template: str, classes: tuple[str, ...], counts: list[int]
) -> None:
    dataset = hundred(labels=template)
    labels = dataset.split("train").labels
    assert dataset.scheme.classes == classes
    assert [labels.count(name) for name in classes] == counts


def test_an_unknown_label_names_file_line_and_remedy() -> None:
    with pytest.raises(InputError, match=r"stars\.csv, line 2: the label '5' is not one of"):
        open_dataset({"name": "files", "test": "stars.csv", "label": "stars"}).split("test")


@pytest.mark.parametrize(("holdout", "held"), [(7, 7), (0.2, 20), ("20%", 20), ("5", 5)])
def test_validation_is_held_out_of_training(holdout: Any, held: int) -> None:
    dataset = hundred(validation_holdout=holdout)
    train, validation = dataset.split("train"), dataset.split("validation")
    assert (len(train), len(validation)) == (100 - held, held)
    assert not set(train.ids) & set(validation.ids)
    again = hundred(validation_holdout=holdout).split("validation")
    assert again.ids == validation.ids
    assert hundred(validation_holdout=holdout, seed=1).split("validation").ids != validation.ids


def test_the_holdout_is_stratified_by_class_and_source() -> None:
    kinds = {("positive", "shop"): 300, ("negative", "shop"): 60, ("negative", "web"): 30}
    rows = [(*kind, f"{kind} {n}") for kind, count in kinds.items() for n in range(count)]
    lines = [f'"{text}",{label},{source}' for label, source, text in rows]
    Path("strata.csv").write_text("text,label,source\n" + "\n".join(lines) + "\n")
    for seed in range(5):
        options = {"train": "strata.csv", "validation_holdout": "10%", "seed": seed}
        held = open_dataset({"name": "files", **options}).split("validation")
        found = Counter(zip(held.labels, held.sources, strict=True))
        assert found == {kind: count // 10 for kind, count in kinds.items()}


def test_the_holdout_is_added_to_an_existing_validation_split() -> None:
    dataset = hundred(validation="stars.csv", validation_holdout=10, label_map={5: "positive"})
    Path("stars.csv").write_text("text,label\nfine,positive\n")
    assert len(dataset.split("validation")) == 11


def test_repetitions_of_an_example_are_held_out_together() -> None:
    dataset = open_dataset(
        {
            "name": "mixture",
            "parts": [{"name": "files", "train": "hundred.csv", "weight": 3}],
            "validation_holdout": 10,
        }
    )
    train, validation = dataset.split("train"), dataset.split("validation")
    assert (len(train), len(validation)) == (270, 10)
    assert not set(train.texts) & set(validation.texts)


def test_a_repeated_text_is_never_in_both_training_and_holdout() -> None:
    rows = "".join(f"{text},positive\n" for text in ["Fine.", "good", "bad", "fine. "] * 10)
    Path("twice.csv").write_text("text,label\n" + rows)
    dataset = open_dataset({"name": "files", "train": "twice.csv", "validation_holdout": 1})
    train, validation = dataset.split("train"), dataset.split("validation")
    assert len(set(dataset.split("train").ids)) == len(train)
    assert len(validation) == 1
    sides = ({text.strip().casefold() for text in side.texts} for side in (train, validation))
    assert not set.intersection(*sides)
    assert len(train) in (20, 30)


def test_sampling_applies_only_to_training() -> None:
    dataset = hundred(test="hundred.csv", sample="30%")
    assert len(dataset.split("train")) == 30
    assert len(dataset.split("test")) == 100


def test_splits_may_be_assigned_other_roles() -> None:
    dataset = hundred(splits={"test": "train", "train": None})
    assert dataset.splits == ("test",)
    assert len(dataset.split("test")) == 100


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"validation_holdout": 100}, "Lower it"),
        ({"threshold": 0.5}, "threshold: A threshold needs two classes"),
        ({"labels": "neg_pos_neu"}, "'neg_neu_pos'"),
        ({"sample": 0}, "dataset.sample|sample"),
        ({"splits": {"train": "training"}}, "no split 'training'"),
        ({"splits": {"trian": "test"}}, "splits: unknown split 'trian'. Did you mean 'train'"),
        ({"validation_holdout": "100%"}, "validation_holdout: the share .* below 100%"),
        ({"validation_holdout": "150%"}, "validation_holdout: the share .* below 100%"),
        ({"validation_holdout": 1.5}, "validation_holdout: a count must be a whole number"),
        (
            {"label_map": {"good": "postive"}},
            "label_map.good: 'postive' is not a class of neg_neu_pos",
        ),
        ({"label_mapp": {}}, "'label_map'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        hundred(**options).split("train")


def test_fingerprints_depend_on_data_and_not_on_paths() -> None:
    first = hundred().split("train").fingerprint()
    text = Path("hundred.csv").read_text()
    Path("copy.tsv").write_text(text.replace(",", "\t"))
    copy = open_dataset({"name": "files", "train": "copy.tsv"}).split("train")
    assert copy.fingerprint() == first
    Path("hundred.csv").write_text(text.replace("number 7,", "number 7!,"))
    assert hundred().split("train").fingerprint() != first


def test_the_benchmarks_mixture_opens(shared_data: Path) -> None:
    dataset = open_dataset(
        {
            "name": "mixture",
            "parts": [
                {"name": "sst", "path": str(shared_data / "sst" / "trees")},
                {
                    "name": "dynasent",
                    "path": str(shared_data / "dynasent-v1.1"),
                    "splits": {"train": "validation", "validation": None},
                },
            ],
            "validation_holdout": 700,
            "seed": 13,
        }
    )
    sizes = [len(dataset.split(name)) for name in ("train", "validation", "test")]
    # A text that is held out stood twice in training.
    assert sizes == [12_864 - 701, 1_101 + 700, 6_530]
