"""Encoders and heads: any transformers architecture, the study's activations and its counts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tiny_classifiers import make_classifier
from tiny_models import make_encoder
from torch import nn

import sentikit as toolkit
from sentikit.classifiers.encoder import PretrainedSource, pool
from sentikit.cli import sentikit
from sentikit.registry import default_registry
from sentikit.training.model import check_shapes

ARCHITECTURES = ("electra", "bert", "roberta", "deberta-v2", "modernbert", "distilbert", "mpnet")


def head(name: str, **settings: Any) -> Any:
    head_class = default_registry().load("register_heads", name)
    return head_class(head_class.Settings(**settings))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_transformers_encoder_trains_and_loads_again(
    architecture: str, tiny_recipe: Path, tmp_path: Path
) -> None:
    make_encoder(tmp_path / "model", architecture)
    words = ["train", "--recipe", str(tiny_recipe), "--output", "run"]
    words += ["--set", "encoder.model=./model", "--set", "training.layer_decay=0.9"]
    result = CliRunner().invoke(sentikit, words)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    probabilities = toolkit.load("run").predict_proba([row["text"] for row in rows])
    recorded = [list(row["probabilities"].values()) for row in rows]
    assert torch.allclose(torch.tensor(probabilities), torch.tensor(recorded).double(), atol=1e-5)


def test_an_encoders_path_may_begin_with_the_home_folder(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    encoder_class = default_registry().load("register_encoders", "transformers")
    encoder = encoder_class(encoder_class.Settings(model="~/model"))
    assert encoder.load_config().hidden_size > 0


def test_minilm_loads_from_its_python_package() -> None:
    encoder_class = default_registry().load("register_encoders", "minilm")
    encoder = encoder_class(encoder_class.Settings())
    assert encoder.load_config().hidden_size == 384
    assert len(encoder.load_tokenizer()("a fine film")["input_ids"]) == 5


def activations() -> tuple[str, ...]:
    head_class = default_registry().load("register_heads", "mlp")
    return get_args(head_class.Settings.model_fields["activation"].annotation)


@pytest.mark.parametrize("activation", activations())
def test_every_activation_trains(activation: str) -> None:
    torch.manual_seed(0)
    layers = head("mlp", layers=2, width=16, activation=activation, dropout=0.0).build(8, 3)
    inputs, gold = torch.randn(64, 8), torch.randint(0, 3, (64,))
    optimizer = torch.optim.Adam(layers.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(layers(inputs), gold)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 0.9


def test_the_activation_is_shared_by_all_hidden_layers() -> None:
    layers = head("mlp", layers=3, width=16, activation="swishglu", dropout=0.1).build(8, 3)
    counted = sum(p.numel() for p in layers.parameters())
    linear = (8 * 16 + 16) + 2 * (16 * 16 + 16) + (16 * 3 + 3)
    assert counted == linear + (16 * 32 + 32)


def test_swishglu_is_a_times_silu_of_g() -> None:
    layers = head("mlp", layers=1, width=4, activation="swishglu", dropout=0.0).build(4, 2)
    states = torch.randn(3, 4)
    projected = layers.activation.projection(states)
    expected = projected[:, :4] * nn.functional.silu(projected[:, 4:])
    assert torch.equal(layers.activation(states), expected)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_padding_never_changes_a_pooled_text(pooling: str) -> None:
    torch.manual_seed(0)
    states = torch.randn(1, 4, 6)
    padded = torch.cat([states, torch.full((1, 3, 6), 9.0)], dim=1)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    # Padding contributes 0 to a maximum, as in the study: compare with a text that has one.
    alone = torch.cat([states, torch.zeros(1, 1, 6)], dim=1) if pooling == "max" else states
    alone_mask = torch.ones(1, 4 + (pooling == "max"), dtype=torch.long)
    alone_mask[:, 4:] = 0
    assert torch.allclose(pool(padded, mask, pooling), pool(alone, alone_mask, pooling))


def test_a_hub_model_without_network_is_named_with_a_remedy(tiny_recipe: Path) -> None:
    words = ["train", "--recipe", str(tiny_recipe), "--output", "run"]
    result = CliRunner().invoke(sentikit, [*words, "--set", "encoder={name: electra-base}"])
    assert result.exit_code == 1
    assert (
        "The encoder 'google/electra-base-discriminator' is not on this machine, and the hub "
        f"({constants.ENDPOINT}) cannot be reached." in result.stderr
    )
    assert "minilm" in result.stderr
    assert not Path("run").exists()


def test_pickled_weights_are_refused(tmp_path: Path, tiny_recipe: Path) -> None:
    folder = make_encoder(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    words = ["train", "--recipe", str(tiny_recipe), "--set", "encoder.model=./model"]
    result = CliRunner().invoke(sentikit, words)
    assert result.exit_code == 2
    assert "safetensors" in result.stderr


@pytest.mark.parametrize(
    "encoder", ["{name: transformers, model: ./model, ", "{name: electra-base, path: ./model, "]
)
def test_a_revision_of_a_local_encoder_is_refused(
    tmp_path: Path, tiny_recipe: Path, encoder: str
) -> None:
    make_encoder(tmp_path / "model")
    words = ["train", "--recipe", str(tiny_recipe), "--output", "run", "--set"]
    result = CliRunner().invoke(sentikit, [*words, f"encoder={encoder}revision: v2}}"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "Error: The encoder ./model is local. Leave out encoder.revision, which is for the hub."
    )
    assert not Path("run").exists()


def _first_layer(weights: dict[str, torch.Tensor]) -> str:
    """Return a tensor in the middle of the encoder, not one that has a default."""
    return next(name for name in weights if "layer" in name and weights[name].ndim == 2)


@pytest.mark.parametrize("architecture", ["electra", "bert", "roberta", "modernbert"])
@pytest.mark.parametrize("fault", ["removed", "renamed", "reshaped"])
def test_an_encoder_whose_tensors_do_not_match_its_config_is_refused_by_name(
    tmp_path: Path, tiny_recipe: Path, architecture: str, fault: str
) -> None:
    folder = make_encoder(tmp_path / "model", architecture)
    weights = load_file(folder / "model.safetensors")
    name = _first_layer(weights)
    tensor = weights.pop(name)
    if fault == "renamed":
        weights[f"{name}_of_another"] = tensor
    if fault == "reshaped":
        weights[name] = torch.zeros(7, 5)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    words = ["train", "--recipe", str(tiny_recipe), "--output", "run"]
    result = CliRunner().invoke(sentikit, [*words, "--set", "encoder.model=./model"])

    assert result.exit_code == 2, result.output
    assert name in result.stderr
    assert "does not fit its config.json" in result.stderr
    if fault == "renamed":
        assert f"{name}_of_another" in result.stderr
    if fault == "reshaped":
        assert f"{name} has shape (7, 5) instead of {tuple(tensor.shape)}" in result.stderr
    assert not Path("run").exists()


@pytest.mark.parametrize("architecture", ["electra", "bert", "roberta", "modernbert"])
@pytest.mark.parametrize("prefixed", [True, False])
def test_an_encoder_with_more_layers_than_its_config_is_refused(
    tmp_path: Path, architecture: str, prefixed: bool
) -> None:
    folder = make_encoder(tmp_path / "model", architecture)
    if prefixed:
        prefix = {"modernbert": "model"}.get(architecture, architecture)
        weights = load_file(folder / "model.safetensors")
        weights = {f"{prefix}.{name}": tensor for name, tensor in weights.items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 1}
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(toolkit.InputError, match=r"fewer layers.*layers?\.1\."):
        PretrainedSource(str(folder)).backbone()


def test_an_encoder_with_damaged_weights_is_named_before_training(
    tmp_path: Path, tiny_recipe: Path
) -> None:
    folder = make_encoder(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights[_first_layer(weights)].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    words = ["train", "--recipe", str(tiny_recipe), "--set", "encoder.model=./model"]
    result = CliRunner().invoke(sentikit, words)
    assert result.exit_code == 1
    assert "The encoder 'transformers' returned NaN or infinite numbers" in result.stderr


def test_an_encoder_without_a_pooler_or_with_pretraining_heads_is_accepted(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "model", "bert")
    weights = load_file(folder / "model.safetensors")
    weights = {f"bert.{n}": t for n, t in weights.items() if not n.startswith("pooler.")}
    weights["cls.predictions.bias"] = torch.zeros(60)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    backbone = PretrainedSource(str(folder)).backbone()
    name = next(iter(backbone.state_dict()))
    assert torch.equal(backbone.state_dict()[name], weights[f"bert.{name}"])


@pytest.mark.parametrize("fault", ["removed", "reshaped"])
def test_a_saved_model_whose_tensors_do_not_match_its_config_is_refused_by_name(
    trained_run: Path, tmp_path: Path, fault: str
) -> None:
    folder = Path(shutil.copytree(trained_run / "model", tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    name = _first_layer(weights)
    tensor = weights.pop(name)
    if fault == "reshaped":
        weights[name] = torch.zeros(7, 5)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(toolkit.InputError, match=re.escape(name)) as caught:
        toolkit.load(folder)
    if fault == "reshaped":
        assert f"shape (7, 5) instead of {tuple(tensor.shape)}" in caught.value.message


def test_a_head_may_be_built_from_the_whole_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_classifier(tmp_path / "model")
    before = toolkit.load(folder, device="cpu").predict_proba(["a film"])
    head_class, asked = default_registry().load("register_heads", "linear"), []

    def build_on(self: Any, config: Any, classes: int) -> nn.Module:
        asked.append(config.get_text_config().num_labels)
        return self.build(config.hidden_size, classes)  # type: ignore[no-any-return]

    monkeypatch.setattr(head_class, "build_on", build_on)
    found = toolkit.load(folder, device="cpu").predict_proba(["a film"])
    assert asked
    assert found == pytest.approx(before, abs=2e-6)


class OddHead(nn.Module):
    """Gives NaN, or logits of one class too many."""

    def __init__(self, odd: str) -> None:
        super().__init__()
        self.odd = odd

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(pooled), 4 if self.odd == "wide" else 3)
        return logits + float("nan") if self.odd == "nan" else logits


@pytest.mark.parametrize("odd", ["nan", "wide"])
def test_a_head_that_returns_nan_or_too_many_logits_is_reported_in_one_sentence(
    odd: str, tmp_path: Path
) -> None:
    classifier: Any = toolkit.load(str(make_classifier(tmp_path / "model")))
    model = classifier.predictor.model
    model.head = OddHead(odd)
    with pytest.raises(toolkit.SentikitError, match=r"finite ones of shape .*, 3"):
        classifier.predict(["a film"])
    wanted = {
        "nan": "'odd' returned NaN or infinite numbers",
        "wide": r"shape \(2, 4\) instead of \(2, 3\)",
    }
    with pytest.raises(toolkit.SentikitError, match=wanted[odd]):
        check_shapes(model, 3, {"encoder": "tiny", "head": "odd"})
