"""Components of plugins in training: pooling by the head, wrong shapes, wrapped engines."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor, nn

import sentikit as toolkit
from sentikit.cli import sentikit
from sentikit.extension import EngineWrapper, Head
from sentikit.plugin_sources import PluginSource, installed_plugins
from sentikit.recipe.resolving import resolve_recipe
from sentikit.registry import Registry
from sentikit.training.job import JobOptions, TrainedRun, train
from sentikit.training.recipe import train_components


class Wide(Head):
    """A head with two logits too many."""

    def build(self, hidden_size: int, classes: int) -> nn.Module:
        return nn.Linear(hidden_size, classes + 2)


class FlatLayers(nn.Linear):
    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        return states.flatten(1)


class Flat(Head):
    """A head whose pooling keeps all tokens."""

    only_pooling = "head"

    def build(self, hidden_size: int, classes: int) -> nn.Module:
        return FlatLayers(hidden_size, classes)


class Counting(EngineWrapper):
    """Counts the steps of another engine."""

    steps = 0

    def step(self, rates: Any) -> Any:
        Counting.steps += 1
        return super().step(rates)


class Narrow(EngineWrapper):
    """An engine that loses a class."""

    def forward(self, *inputs: Tensor) -> Tensor:
        logits = super().forward(*inputs)
        return logits if torch.is_grad_enabled() else logits[:, :2]


@pytest.fixture
def registry() -> Registry:
    def register_heads(register: Any) -> None:
        register("wide", Wide)
        register("flat", Flat)

    def register_engines(register: Any) -> None:
        register("counting", Counting)
        register("narrow", Narrow)

    plugin = SimpleNamespace(
        register_heads=toolkit.hookimpl(register_heads),
        register_engines=toolkit.hookimpl(register_engines),
    )
    return Registry(
        [*installed_plugins(), PluginSource("odd", "test", "0", "test", lambda: plugin)]
    )


def run(registry: Registry, recipe: Path, *settings: str, output: str = "run") -> TrainedRun:
    parts = train_components(resolve_recipe(str(recipe), settings, registry), registry)
    return train(parts, Path(output), JobOptions(device="cpu"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("head={name: wide}", r"The head 'wide' returned shape \(2, 5\) instead of \(2, 3\)"),
        ("head={name: flat}", r"The pooling 'head' returned shape \(2, 96\) instead of \(2, 32\)"),
        ("engine={name: narrow}", r"The engine Narrow returned logits of shape \(\d+, 2\)"),
    ],
)
def test_a_wrong_shape_is_named_with_the_expected_one(
    registry: Registry, tiny_recipe: Path, setting: str, message: str
) -> None:
    with pytest.raises(toolkit.SentikitError, match=message):
        run(registry, tiny_recipe, setting)


def test_a_wrapped_engine_trains_the_same(registry: Registry, tiny_recipe: Path) -> None:
    run(registry, tiny_recipe, output="plain")
    Counting.steps = 0
    run(registry, tiny_recipe, "engine={name: counting, wraps: {name: torch}}", output="wrapped")
    assert Counting.steps == 12
    first, second = (load_file(f"{name}/model/model.safetensors") for name in ("plain", "wrapped"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_wrapping_an_unknown_engine_is_refused(registry: Registry, tiny_recipe: Path) -> None:
    with pytest.raises(toolkit.InputError, match="Did you mean 'torch'"):
        run(registry, tiny_recipe, "engine={name: counting, wraps: {name: torhc}}")


@pytest.mark.parametrize("layers", ["all", "none"])
def test_a_head_may_do_its_own_pooling(tiny_recipe: Path, layers: str) -> None:
    settings = ["--set", "head={name: attention}", "--set", f"training.finetune_layers={layers}"]
    words = ["train", "--recipe", str(tiny_recipe), "--output", "run", *settings]
    result = CliRunner().invoke(sentikit, [*words, "--set", "training.lr=5e-3"])
    assert result.exit_code == 0, result.output
    stored = load_file("run/model/model.safetensors")
    assert "head.query.weight" in stored
    classifier = toolkit.load("run", device="cpu", precision="fp32")
    texts = ["the food was great", "awful"]
    padded = classifier.predict_proba([*texts, "it was not good " * 12])[:2]
    assert np.allclose(padded, classifier.predict_proba(texts), atol=1e-5)


def test_a_pooling_that_a_head_does_not_support_is_refused(tiny_recipe: Path) -> None:
    words = ["train", "--recipe", str(tiny_recipe), "--set", "head={name: linear, pooling: head}"]
    result = CliRunner().invoke(sentikit, words)
    assert result.exit_code == 2
    assert "the head 'linear' does not pool" in result.stderr
