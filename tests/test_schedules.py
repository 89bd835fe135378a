"""Schedules: the same rates as torch's, as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from sentikit.training.settings import (
    Constant,
    Cosine,
    CosineWarmRestarts,
    Cyclic,
    Exponential,
    Linear,
    Moment,
    MultiStep,
    Step,
    rate_at,
)

EPOCHS, PER_EPOCH, BASE = 12, 5, 0.1


@pytest.mark.parametrize("period", [0.1, 0.2, 0.3, 0.6])
@pytest.mark.parametrize("mult", [1, 2])
def test_schedule_restarts_fall_on_exact_steps(period: float, mult: int) -> None:
    schedule = CosineWarmRestarts(t_0=period, t_mult=mult)
    starts, length = {0}, round(100 * period)
    while max(starts) < 1000:
        starts.add(max(starts) + length)
        length *= mult
    rates = [schedule.rate(BASE, Moment(step, 1000, 100, 0)) for step in range(1000)]
    assert {step for step, rate in enumerate(rates) if rate > BASE - 1e-9} == starts - {
        step for step in starts if step >= 1000
    }


def moments(warmup: int = 0) -> list[Moment]:
    return [Moment(s, EPOCHS * PER_EPOCH, PER_EPOCH, warmup) for s in range(EPOCHS * PER_EPOCH)]


def torch_rates(make: Callable[[Any], Any], step_size: float) -> list[float]:
    """Rates of a torch schedule stepped once a step, in units of `step_size`."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=BASE)
    schedule = make(optimizer)
    rates = []
    for step in range(EPOCHS * PER_EPOCH):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step_size == 1 or (step + 1) % PER_EPOCH == 0:
            schedule.step()
    return rates


@pytest.mark.parametrize(
    ("ours", "theirs", "step_size"),
    [
        (Step(step_size=3, gamma=0.5), lambda o: lr_scheduler.StepLR(o, 3, 0.5), PER_EPOCH),
        (
            MultiStep(milestones=(2, 7), gamma=0.3),
            lambda o: lr_scheduler.MultiStepLR(o, [2, 7], 0.3),
            PER_EPOCH,
        ),
        (
            Cosine(eta_min=0.01),
            lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * PER_EPOCH, 0.01),
            1,
        ),
        (
            CosineWarmRestarts(t_0=2, t_mult=2, eta_min=0.01),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2 * PER_EPOCH, 2, 0.01),
            1,
        ),
        (
            CosineWarmRestarts(t_0=5, t_mult=1, eta_min=1e-7),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5 * PER_EPOCH, 1, 1e-7),
            1,
        ),
        (
            Linear(),
            lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, EPOCHS * PER_EPOCH),
            1,
        ),
        (
            Cyclic(epochs_up=2, low_factor=0.1),
            lambda o: lr_scheduler.CyclicLR(o, BASE * 0.1, BASE, 2 * PER_EPOCH),
            1,
        ),
    ],
)
def test_scheduled_rates_equal_torchs(
    ours: Any, theirs: Callable[[Any], Any], step_size: float
) -> None:
    rates = [rate_at(ours, BASE, moment) for moment in moments()]
    assert rates == pytest.approx(torch_rates(theirs, step_size), abs=1e-9)


def test_exponential_decay_equals_torchs_at_every_epoch() -> None:
    rates = [rate_at(Exponential(gamma=0.9), BASE, m) for m in moments()]
    assert rates[::PER_EPOCH] == pytest.approx([BASE * 0.9**e for e in range(EPOCHS)])


def test_warm_up_rises_linearly_to_the_base_rate() -> None:
    rates = [rate_at(Constant(), BASE, m) for m in moments(warmup=10)]
    assert rates[:10] == pytest.approx([BASE * (s + 1) / 10 for s in range(10)])
    assert set(rates[10:]) == {BASE}


def test_a_very_long_schedule_with_restarts_stays_fast() -> None:
    moment = Moment(10**9, 10**9 + 1, 1, 0)
    assert math.isfinite(CosineWarmRestarts(t_0=5).rate(BASE, moment))
