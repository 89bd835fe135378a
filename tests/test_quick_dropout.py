"""Dropout on the CPU: as torch's, from a quarter of the random numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sentikit.extension import ParameterGroup, StepPlan
from sentikit.registry import default_registry
from sentikit.training.settings import SGD, Adagrad, AdamW, Optimizer


def prepared(model: nn.Module, optimizer: Optimizer | None = None, clip: float = 1.0) -> nn.Module:
    engine_class = default_registry().load("register_engines", "torch")
    engine = engine_class(engine_class.Settings())
    engine.start("cpu")
    groups = [ParameterGroup("all", dict(model.named_parameters()), 0.1, 0.0)]
    engine.prepare(model, groups, StepPlan(optimizer or AdamW(), clip, "fp32", 4, 4))
    model.engine = engine  # type: ignore[assignment]
    return model


def dropout(probability: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(probability))
    return prepared(model)[1]  # type: ignore[index]


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_as_many_elements_are_dropped_as_asked_and_the_mean_is_kept(probability: float) -> None:
    layer = dropout(probability)
    torch.manual_seed(1)
    found = layer(torch.ones(1001, 999))
    assert (found == 0).double().mean().item() == pytest.approx(probability, abs=2e-3)
    assert found[found != 0].unique().tolist() == pytest.approx([1 / (1 - probability)])
    # Nothing links neighbours, which share a random number.
    pairs = (found == 0).reshape(-1)[: 4 * 249_000].view(-1, 4).double()
    assert torch.corrcoef(pairs.T).fill_diagonal_(0).abs().max() < 0.01


def test_the_gradient_is_that_of_the_kept_elements() -> None:
    values = torch.ones(7, 13, requires_grad=True)
    found = dropout(0.5)(values)
    found.backward(torch.full((7, 13), 3.0))
    assert values.grad is not None
    assert torch.equal(values.grad, 3 * found.detach())


def test_the_seed_decides_and_evaluation_drops_nothing() -> None:
    layer, values = dropout(0.3), torch.rand(5, 6)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(layer(values))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert layer.eval()(values) is values


@pytest.mark.parametrize("optimizer", [AdamW(), SGD(), SGD(momentum=0.9), Adagrad()], ids=repr)
@pytest.mark.parametrize("clip", [0.01, 1000.0])
def test_gradients_clipped_within_the_optimizer_are_those_clipped_before(
    optimizer: Optimizer, clip: float
) -> None:
    torch.manual_seed(0)
    start = nn.Linear(6, 3)
    fused, plain = nn.Linear(6, 3), nn.Linear(6, 3)
    for model in (fused, plain):
        model.load_state_dict(start.state_dict())
    engine = prepared(fused, optimizer, clip).engine
    arguments = optimizer.model_dump(exclude={"name"})
    group = {"params": list(plain.parameters()), "lr": 0.1, "weight_decay": 0.0}
    reference = getattr(torch.optim, type(optimizer).__name__)([group], **arguments)
    for seed in range(3):
        inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
        engine.backward(engine.forward(inputs).square().sum())
        norm = engine.step([0.1])
        plain(inputs).square().sum().backward()
        wanted = torch.nn.utils.clip_grad_norm_(plain.parameters(), clip)
        reference.step()
        reference.zero_grad()
        assert float(norm) == pytest.approx(float(wanted), rel=1e-4)
        for own, other in zip(fused.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)
