"""Warnings of training about suspicious data, and changes by the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file

import sentikit as toolkit
from sentikit.classifiers.prediction import HIGHEST, trusted_temperature
from sentikit.cli import sentikit

#: Twelve texts a class, none in two splits.
WORDS = ["film", "food", "room", "service", "book", "train"]
GOOD = [f"the {word} was {how}" for word in WORDS for how in ("great", "good")]
BAD = [f"the {word} was {how}" for word in WORDS for how in ("awful", "bad")]


def rows(texts: list[str], label: str) -> list[str]:
    return [f"{text},{label},shop" for text in texts]


def write(name: str, lines: list[str]) -> str:
    Path(name).write_text("\n".join(["text,label,source", *lines]) + "\n")
    return name


def recipe(encoder: Path, train: list[str], validation: list[str], **training: Any) -> str:
    values = {
        "dataset": {
            "name": "files",
            "labels": "bin_pos",
            "train": write("train.csv", train),
            "validation": write("validation.csv", validation),
        },
        "encoder": {"name": "transformers", "model": str(encoder), "max_length": 16},
        "head": {"name": "linear"},
        "training": {"epochs": 1, "batch_size": 8, "lr": 1e-3, **training},
    }
    Path("recipe.yaml").write_text(json.dumps(values))
    return "recipe.yaml"


def train(path: str, *words: str, typed: str | None = None, output: str = "run") -> Result:
    given = ["train", "--recipe", path, "--output", output, *words]
    return CliRunner().invoke(sentikit, given, input=typed)


POSITIVE, OTHER = rows(GOOD, "positive"), rows(BAD, "non-positive")


@pytest.mark.parametrize(
    ("train_rows", "validation_rows", "settings", "message"),
    [
        (POSITIVE[:9] + OTHER[:9], POSITIVE[9:] + OTHER[9:], {}, "Only 6 validation texts"),
        (
            POSITIVE[:9] + OTHER[:9],
            POSITIVE[9:] + OTHER[9:],
            {"batch_size": 64},
            "batch_size is 64, but there are only 18 training",
        ),
        (POSITIVE + OTHER, POSITIVE + OTHER, {}, "Every validation text is also a training text"),
        (
            POSITIVE + OTHER[:9],
            POSITIVE[:3] + OTHER[9:],
            {},
            "3 of 6 validation texts (50.0%) are also training texts",
        ),
        (
            [*POSITIVE[:9], *OTHER[:9], POSITIVE[0].replace("positive", "non-positive")],
            POSITIVE[9:] + OTHER[9:],
            {},
            "1 training texts have several labels, for example 'the film was great': positive and "
            "non-positive",
        ),
        (
            POSITIVE[:9] + OTHER[:9],
            POSITIVE[9:],
            {},
            "No validation text is labelled 'non-positive'",
        ),
        (
            POSITIVE[:9] + OTHER[:9] + rows(["good " * 40], "positive"),
            POSITIVE[9:] + OTHER[9:],
            {},
            "1 of 19 train texts (5.3%) are longer than encoder.max_length (16)",
        ),
        (
            rows([f"zzz{n} qqq xxx" for n in range(9)], "positive") + OTHER[:9],
            POSITIVE[9:] + OTHER[9:],
            {},
            "of the word pieces of the training texts are unknown",
        ),
        (
            POSITIVE[:11] + OTHER[:1],
            POSITIVE[11:] + OTHER[11:],
            {"lr": 1e-9},
            "After epoch 1 the model predicts",
        ),
        (
            POSITIVE[:9] + OTHER[:9],
            POSITIVE[9:] + OTHER[9:],
            {"epochs": 30, "lr": 5e-3},
            "too few to calibrate by",
        ),
    ],
)
def test_training_warns_about_suspicious_data(
    tiny_encoder: Path,
    train_rows: list[str],
    validation_rows: list[str],
    settings: dict[str, Any],
    message: str,
) -> None:
    result = train(recipe(tiny_encoder, train_rows, validation_rows, **settings))
    assert result.exit_code == 0, result.output
    assert message in result.stderr


def test_sound_data_cause_no_warning(tiny_encoder: Path) -> None:
    more = [f"{text} again" for text in GOOD + BAD]
    validation = rows(more[:15], "positive") + rows(more[15:], "non-positive")
    validation += rows([f"never {text}" for text in GOOD], "non-positive")
    result = train(recipe(tiny_encoder, POSITIVE + OTHER, validation, lr=3e-3))
    assert result.exit_code == 0, result.output
    for word in ("Only", "training texts", "unknown", "longer than", "several labels"):
        assert word not in result.stderr


def test_fewer_validation_texts_than_classes_are_refused(tiny_encoder: Path) -> None:
    result = train(recipe(tiny_encoder, POSITIVE + OTHER, POSITIVE[:1]))
    assert result.exit_code == 2
    assert "The validation split has 1 texts for 2 classes" in result.stderr
    assert not Path("run").exists()


def test_the_holdout_has_its_share_of_every_class_and_source() -> None:
    lines = []
    for label, source, count in (
        ("positive", "shop", 200),
        ("positive", "cinema", 40),
        ("negative", "shop", 20),
        ("negative", "cinema", 60),
    ):
        lines += [f"{label} {source} {n},{label},{source}" for n in range(count)]
    section = {"name": "files", "train": write("train.csv", lines), "validation_holdout": 0.1}
    held = [toolkit.open_dataset({**section, "seed": seed}).split("validation") for seed in (1, 2)]
    for examples in held:
        found = list(zip(examples.labels, examples.sources, strict=True))
        counts = {pair: found.count(pair) for pair in set(found)}
        assert counts == {
            ("positive", "shop"): 20,
            ("positive", "cinema"): 4,
            ("negative", "shop"): 2,
            ("negative", "cinema"): 6,
        }
    assert held[0].texts != held[1].texts


@pytest.mark.parametrize("mistakes", [0, 4])
def test_a_temperature_fitted_on_a_few_mistakes_is_refused_with_a_warning(mistakes: int) -> None:
    gold = np.zeros(200, np.int64)
    logits = np.tile(np.array([[1.0, 0.0]], np.float32), (200, 1))
    gold[:mistakes] = 1
    temperature, warning = trusted_temperature(logits, gold)
    assert temperature == 1.0
    assert f"Only {mistakes} of 200" in warning


def test_a_temperature_at_the_limit_of_its_range_is_named() -> None:
    gold = np.array([0, 1] * 50)
    logits = np.tile(np.array([[9.0, 0.0]], np.float32), (100, 1))
    temperature, warning = trusted_temperature(logits, gold)
    assert temperature == pytest.approx(HIGHEST)
    assert "at the limit of its range" in warning


def test_a_temperature_fitted_on_enough_mistakes_is_used() -> None:
    generator = np.random.default_rng(0)
    gold = generator.integers(0, 2, 500)
    logits = generator.normal(size=(500, 2)).astype(np.float32)
    logits[np.arange(500), gold] += 1
    temperature, warning = trusted_temperature(logits * 3, gold)
    assert warning == ""
    assert 2 < temperature < 4


def test_the_saved_recipe_includes_interactive_changes(tiny_encoder: Path) -> None:
    path = recipe(tiny_encoder, POSITIVE[:9] + OTHER[:9], POSITIVE[9:] + OTHER[9:], epochs=2)
    typed = "lr 5e-3\ncontinue\nepochs 4\nlr 1e-4\ncontinue\ncontinue\n"
    steered = train(path, "--interactive", typed=typed)
    assert steered.exit_code == 0, steered.output
    changes = [
        {"after_epoch": 1, "lr": 0.005},
    ]
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["recipe"]["training"]["changes"] == changes
    assert manifest["epochs"] == 2
    assert yaml.safe_load(Path("run/recipe.yaml").read_text())["training"]["changes"] == changes
    log = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    recorded = [record for record in log if record["kind"] == "change"]
    assert [(r["after_epoch"], r["lr"]) for r in recorded] == [(1, 0.005)]
    again = train("run/recipe.yaml", output="again")
    assert again.exit_code == 0, again.output
    first, second = (load_file(f"{run}/model/model.safetensors") for run in ("run", "again"))
    assert all((first[name] == second[name]).all() for name in first)


def test_epochs_added_interactively_are_part_of_the_saved_recipe(
    tiny_encoder: Path,
) -> None:
    path = recipe(tiny_encoder, POSITIVE[:9] + OTHER[:9], POSITIVE[9:] + OTHER[9:], epochs=2)
    stopped = train(path, "--interactive", typed="epochs 4\nlr 3e-3\ncontinue\nlr 1e-4\nquit\n")
    assert stopped.exit_code == 130
    resumed = train("run/recipe.yaml", "--resume")
    assert resumed.exit_code == 0, resumed.output
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["epochs"] == 4
    assert manifest["recipe"]["training"]["changes"] == [
        {"after_epoch": 1, "epochs": 4, "lr": 0.003},
        {"after_epoch": 2, "lr": 0.0001},
    ]
    assert train("run/recipe.yaml", output="again").exit_code == 0
    first, second = (load_file(f"{run}/model/model.safetensors") for run in ("run", "again"))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize("finetune_layers", ["all", "none"])
def test_long_texts_are_read_whole_in_chunks(tiny_encoder: Path, finetune_layers: str) -> None:
    long = [f"{'it is here . ' * 12}{text}" for text in GOOD + BAD]
    lines = rows(long[:12], "positive") + rows(long[12:], "non-positive")
    path = recipe(tiny_encoder, lines, lines, epochs=2, finetune_layers=finetune_layers)
    result = train(path, "--set", "encoder.long_texts=chunks")
    assert result.exit_code == 0, result.output
    assert "longer than" not in result.stderr
    classifier = toolkit.load("run", device="cpu", precision="fp32")
    tail = f"{'it is here . ' * 12}awful bad never hate cold slow"
    head = "it is here . " * 12
    assert not np.allclose(*classifier.predict_proba([head, tail]))
    written = [json.loads(x) for x in Path("run/predictions.jsonl").read_text().splitlines()]
    probabilities = [list(row["probabilities"].values()) for row in written]
    assert np.allclose(classifier.predict_proba(long), probabilities, atol=1e-4)
    cut = train(path, output="cut")
    assert "24 of 24 train texts (100.0%) are longer" in cut.stderr
    same = toolkit.load("cut", device="cpu", precision="fp32").predict_proba([head, tail])
    assert np.allclose(*same)


def test_head_and_tail_of_a_long_text_are_read(tiny_encoder: Path) -> None:
    lines = POSITIVE[:9] + OTHER[:9]
    path = recipe(tiny_encoder, lines, POSITIVE[9:] + OTHER[9:])
    assert train(path, "--set", "encoder.long_texts=head_tail").exit_code == 0
    classifier = toolkit.load("run", device="cpu", precision="fp32")
    middle = "it is here . " * 30
    texts = [f"{middle}great", f"{middle}awful", f"a {middle} b {middle}great"]
    found = classifier.predict_proba(texts)
    assert not np.allclose(found[0], found[1])
