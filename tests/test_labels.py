"""Label schemes: the bundled ones, and lists of classes of a user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sentikit import InputError, open_dataset
from sentikit.cli import sentikit
from sentikit.datasets.labels import label_scheme

EMOTIONS = ["anger", "joy", "no emotion"]


def files(spelled: list[str], **options: Any) -> Any:
    """Open a dataset whose training split holds these labels."""
    lines = [f"text {number},{label}" for number, label in enumerate(spelled)]
    Path("train.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    return open_dataset({"name": "files", "train": "train.csv", **options})


def test_a_list_of_classes_is_a_scheme_in_the_given_order() -> None:
    opened = files(["Joy", "ANGER ", "no  emotion"], labels=EMOTIONS)
    assert opened.scheme.classes == ("anger", "joy", "no emotion")
    assert opened.split("train").labels == ["joy", "anger", "no emotion"]
    assert not opened.scheme.ordered


def test_a_list_of_classes_may_be_ordered() -> None:
    opened = files(["low", "high"], labels={"classes": ["low", "high"], "ordered": True})
    assert opened.scheme.ordered


def test_the_bundled_schemes_say_whether_they_are_ordered() -> None:
    ordered = {name for name in ("neg_neu_pos", "five", "stars") if label_scheme(name).ordered}
    assert ordered == {"neg_neu_pos", "five", "stars"}
    assert not label_scheme("bin_pos").ordered


@pytest.mark.parametrize(
    ("spelled", "name"),
    [("5", "5 stars"), ("1.0", "1 star"), ("3 Stars", "3 stars"), ("★★", "2 stars")],
)
def test_stars_are_written_as_numbers_words_or_signs(spelled: str, name: str) -> None:
    assert files([spelled], labels="stars").split("train").labels == [name]


@pytest.mark.parametrize("spelled", ["0", "6", "4.5", "-1"])
def test_values_that_are_no_star_rating_are_refused(spelled: str) -> None:
    with pytest.raises(InputError, match="is not one of 1 star, 2 stars"):
        files([spelled], labels="stars").split("train")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["joy"], "a list of classes needs at least two"),
        (["joy", "Joy "], "'joy' and 'Joy' are the same class"),
        (["joy", ""], "a class has no name"),
        ("fiv", "unknown label scheme 'fiv'. Did you mean 'five'"),
        ({"classes": ["a", "b"], "order": True}, "'ordered'"),
    ],
)
def test_impossible_schemes_are_refused(labels: Any, expected: str) -> None:
    with pytest.raises(InputError) as refused:
        files(["joy"], labels=labels)
    assert expected in str(refused.value)


def test_a_label_outside_the_list_is_refused_without_naming_a_class_for_it() -> None:
    with pytest.raises(InputError) as refused:
        files(["fear"], labels=EMOTIONS).split("train")
    assert "train.csv, line 2: the label 'fear' is not one of anger, joy, no emotion" in str(
        refused.value
    )
    assert "{'fear': CLASS}" in str(refused.value)


@pytest.mark.parametrize("key", ["5", "5.0", " 5 ", 5, 5.0])
@pytest.mark.parametrize("label", ["5", "5.0"])
def test_label_map_keys_are_compared_like_classes(key: Any, label: str) -> None:
    assert files([label], label_map={key: "positive"}).split("train").labels == ["positive"]


def test_label_map_keys_ignore_case_and_spaces() -> None:
    opened = files(["very  Good"], label_map={"VERY GOOD": "positive"})
    assert opened.split("train").labels == ["positive"]


def test_conflicting_label_map_keys_of_one_label_are_refused() -> None:
    with pytest.raises(InputError, match="'Good' and 'good' are one label, mapped to two classes"):
        files(["good"], label_map={"Good": "positive", "good": "neutral"})
    agreeing = files(["good"], label_map={"Good": "positive", "good": "positive"})
    assert agreeing.split("train").labels == ["positive"]
    assert agreeing.warnings() == ["dataset.label_map: 'Good' and 'good' are one label. Keep one."]


def test_unused_label_map_keys_are_reported() -> None:
    opened = files(["good"], label_map={"good": "positive", "goood": "positive"})
    assert opened.warnings() == []
    opened.split("train")
    (warning,) = opened.warnings()
    assert "no label of 'train' is 'goood'. Did you mean 'good'?" in warning
    words = ["datasets", "show", "files", "--set", "train=train.csv"]
    shown = CliRunner().invoke(
        sentikit, [*words, "--set", "label_map={good: positive, x: neutral}"]
    )
    assert shown.exit_code == 0, shown.stderr
    assert "no label of 'train' is 'x'" in shown.stderr


def test_a_model_with_custom_classes_trains_and_refuses_data_of_other_classes(
    tiny_encoder: Path,
) -> None:
    rows = [f"I feel {'awful' if n % 3 == 0 else 'great'} {n},{EMOTIONS[n % 3]}" for n in range(48)]
    for split in ("train", "validation", "test"):
        Path(f"{split}.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    Path("emotions.yaml").write_text(
        f"""dataset: {{name: files, train: train.csv, validation: validation.csv, test: test.csv,
  labels: {EMOTIONS}}}
encoder: {{name: transformers, model: {tiny_encoder}, max_length: 32}}
head: {{name: linear, pooling: mean}}
training: {{epochs: 1, batch_size: 16, lr: 1e-3}}
"""
    )
    run = ["train", "--recipe", "emotions.yaml", "--output", "run", "--device", "cpu"]
    trained = CliRunner().invoke(sentikit, run)
    assert trained.exit_code == 0, trained.stderr
    assert "no emotion" in Path("run/metrics.json").read_text()
    row = json.loads(Path("run/predictions.jsonl").read_text().splitlines()[0])
    assert set(row["probabilities"]) == set(EMOTIONS)
    judged = CliRunner().invoke(sentikit, ["evaluate", "run", "--output", "judged"])
    assert judged.exit_code == 0, judged.stderr
    other = CliRunner().invoke(sentikit, ["evaluate", "run", "--dataset", "demo"])
    assert other.exit_code == 2
    assert "is not one of anger, joy, no emotion" in other.stderr
    mapping = "label_map={negative: anger, neutral: no emotion, positive: joy}"
    mapped = CliRunner().invoke(
        sentikit, ["evaluate", "run", "--dataset", "demo", "--set", mapping, "--json"]
    )
    assert mapped.exit_code == 0, mapped.stderr
