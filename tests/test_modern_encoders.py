"""Warm starts, decoders, adapters and the recipes of current encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from tiny_models import SIZES, WORDS, make_encoder, make_tokenizer

import sentikit as toolkit
from sentikit.cli import sentikit
from sentikit.recipe.resolving import resolve_recipe, resolve_values
from sentikit.registry import default_registry
from sentikit.training.recipe import TrainComponents, train_components


def train(recipe: Path, *settings: str, output: str = "run", extra: tuple[str, ...] = ()) -> Result:
    words = ["train", "--recipe", str(recipe), "--output", output, *extra]
    for setting in settings:
        words += ["--set", setting]
    return CliRunner().invoke(sentikit, words)


def make_decoder(folder: Path, architecture: str) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    make_tokenizer(folder)
    sizes: dict[str, Any] = {
        **SIZES,
        "vocab_size": len(WORDS) + 5,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes))
    model.save_pretrained(folder)
    return folder


def test_a_run_can_be_the_warm_start_of_another(trained_run: Path, tiny_recipe: Path) -> None:
    encoder = f"encoder={{name: run, path: {trained_run}, max_length: 64}}"
    result = train(tiny_recipe, encoder, "training.epochs=1", "training.lr=1e-12")
    assert result.exit_code == 0, result.output
    before, after = (
        load_file(run / "model" / "model.safetensors") for run in (trained_run, Path("run"))
    )
    own = [name for name in before if name.startswith("encoder.")]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in own)
    assert not torch.equal(before["head.1.weight"], after["head.1.weight"])
    assert toolkit.load("run").predict(["great"])[0] in toolkit.load("run").labels


def test_a_warm_start_that_is_no_run_is_refused(tiny_recipe: Path) -> None:
    result = train(tiny_recipe, "encoder={name: run, path: nowhere}")
    assert result.exit_code == 2
    assert "encoder.path: nowhere is neither a run that trained an encoder" in result.stderr


@pytest.mark.parametrize(
    "head", ["AutoModelForSequenceClassification", "AutoModelForMaskedLM", "AutoModel"]
)
def test_a_transformers_folder_is_a_warm_start_whatever_its_head(
    tmp_path: Path, tiny_recipe: Path, head: str
) -> None:
    import transformers

    folder = make_encoder(tmp_path / "model", "bert")
    model = getattr(transformers, head).from_pretrained(folder)
    model.save_pretrained(folder)
    result = train(tiny_recipe, "encoder.model=./model", "training.epochs=1", "training.lr=1e-12")
    assert result.exit_code == 0, result.output
    name = "encoder.layer.1.output.dense.weight"
    stored = load_file("run/model/model.safetensors")[f"encoder.{name}"]
    assert torch.allclose(stored, model.base_model.state_dict()[name], atol=1e-6)


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3_text"])
def test_a_decoder_works_as_an_encoder_with_last_token_pooling_and_lora(
    tmp_path: Path, tiny_recipe: Path, architecture: str
) -> None:
    folder = make_decoder(tmp_path / "decoder", architecture)
    settings = (
        f"encoder={{name: transformers, model: {folder}, max_length: 64, lora: {{rank: 4}}}}",
        "head.pooling=last",
        "training.lr=1e-2",
    )
    planned = train(tiny_recipe, *settings, extra=("--dry-run", "--json"))
    assert planned.exit_code == 0, planned.output
    plan = json.loads(planned.stdout)
    assert 0 < plan["trained_parameters"] < plan["parameters"] / 2
    result = train(tiny_recipe, *settings)
    assert result.exit_code == 0, result.output
    stored = load_file("run/model/model.safetensors")
    assert not [name for name in stored if "lora" in name or "base_layer" in name]
    before = load_file(folder / "model.safetensors")
    name = "layers.0.self_attn.q_proj.weight"
    assert not torch.allclose(stored[f"encoder.{name}"], before[f"model.{name}"])
    assert torch.equal(stored["encoder.norm.weight"], before["model.norm.weight"])
    rows = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    classifier = toolkit.load("run", device="cpu", precision="fp32")
    found = classifier.predict_proba([row["text"] for row in rows])
    written = [list(row["probabilities"].values()) for row in rows]
    assert np.allclose(found, written, atol=1e-4)


def test_adapters_resume_to_the_same_weights(tmp_path: Path, tiny_recipe: Path) -> None:
    folder = make_decoder(tmp_path / "decoder", "qwen3")
    settings = (
        f"encoder={{name: transformers, model: {folder}, max_length: 64, lora: {{rank: 4}}}}",
        "head.pooling=last",
    )
    assert train(tiny_recipe, *settings, output="whole").exit_code == 0
    words = ["train", "--recipe", str(tiny_recipe), "--output", "run", "--interactive"]
    given = [word for setting in settings for word in ("--set", setting)]
    assert CliRunner().invoke(sentikit, [*words, *given], input="quit\n").exit_code == 130
    assert train(tiny_recipe, *settings, extra=("--resume",)).exit_code == 0
    first, second = (load_file(f"{run}/model/model.safetensors") for run in ("whole", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_lora_targets_the_encoder_lacks_are_refused(tiny_recipe: Path) -> None:
    result = train(tiny_recipe, "encoder.lora={layers: [nowhere]}")
    assert result.exit_code == 2
    assert "encoder.lora.layers does not fit this encoder" in result.stderr


#: Recipe, architecture, and the published millions of parameters of the encoder.
PUBLISHED = {
    "deberta-v3-base": ("deberta-v2", 184),
    "deberta-v3-large": ("deberta-v2", 434),
    "modernbert-base": ("modernbert", 149),
    "modernbert-large": ("modernbert", 395),
    "ettin-base": ("modernbert", 149),
    "ettin-large": ("modernbert", 395),
    "mmbert-base": ("modernbert", 307),
    "mmbert-small": ("modernbert", 140),
    "qwen3-0.6b-lora": ("qwen3", 596),
    "gemma-3-270m-lora": ("gemma3_text", 268),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_of_a_current_encoder_has_its_published_size_and_trains(
    name: str, tmp_path: Path, reviews: Path
) -> None:
    architecture, millions = PUBLISHED[name]
    dataset = {
        "name": "files",
        **{split: f"{reviews}/{split}.csv" for split in ("train", "validation", "test")},
    }
    values = {**resolve_recipe(name, (), default_registry()).values, "dataset": dataset}
    parts = train_components(resolve_values(values, name, "the test"), default_registry())
    assert isinstance(parts, TrainComponents)
    parameters = sum(
        p.numel() for n, p in parts.meta_model().encoder.named_parameters() if "lora" not in n
    )
    assert parameters / 1e6 == pytest.approx(millions, rel=0.005)
    make = make_decoder if name.endswith("lora") else make_encoder
    folder = make(tmp_path / "tiny", architecture)
    values["encoder"] = {**values["encoder"], "model": str(folder)}
    run = toolkit.train(values, output="run", device="cpu", epochs=1, warmup=0.1)
    assert run.split == "test"


def test_the_open_vote_names_three_recipes_that_train() -> None:
    values = resolve_recipe("vote-open", (), default_registry()).values
    for member in values["vote"]["members"]:
        assert resolve_recipe(member, (), default_registry()).values["kind"] == "train"


def test_oversampling_balances_sources_as_the_study_does() -> None:
    from sentikit.datasets.examples import Examples
    from sentikit.training.data import repeated_rows

    sources = ["r1"] * 80 + ["r2"] * 13 + ["sst"] * 9
    labels = ["negative" if n % 3 else "neutral" for n in range(102)]
    examples = Examples.from_columns([f"text {n}" for n in range(102)], labels, sources)
    rows = repeated_rows(examples, "source")
    counted = [sum(sources[row] == name for row in rows) for name in ("r1", "r2", "sst")]
    assert counted == [80, 13 * 7, 9 * 9]
    by_name = repeated_rows(examples, {"sst": 10, "neutral": 2})
    assert sum(sources[row] == "sst" for row in by_name) == sum(
        10 * (2 if labels[n] == "neutral" else 1) for n in range(93, 102)
    )
    assert len(repeated_rows(examples, "none")) == 102
    with pytest.raises(toolkit.InputError, match="Did you mean 'sst'"):
        repeated_rows(examples, {"sst2": 2})


def test_oversampled_texts_add_steps_to_an_epoch(tiny_recipe: Path) -> None:
    plain = json.loads(train(tiny_recipe, extra=("--dry-run", "--json")).stdout)
    assert plain["steps_per_epoch"] == 6
    settings = ("training.oversample={shop: 3}", "training.epochs=1")
    planned = json.loads(train(tiny_recipe, *settings, extra=("--dry-run", "--json")).stdout)
    assert planned["steps_per_epoch"] == 12
    assert train(tiny_recipe, *settings).exit_code == 0
    assert json.loads(Path("run/manifest.json").read_text())["steps"] == 12
