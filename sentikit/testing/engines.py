"""What is expected of an engine: the steps plain torch would make, and a state that moves over."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sentikit.devices import Hardware
from sentikit.testing.parts import check_part, require
from sentikit.training.engine import Engine

if TYPE_CHECKING:
    from torch import Tensor

    from sentikit.testing.tiny_training import Batch, TinyTraining

#: Learning rates of the two parameter groups in the first, second and third step.
_RATES = ((0.05, 0.1), (0.02, 0.0), (0.05, 0.1))


def check_engine(
    engine_class: type[Engine], settings: Mapping[str, Any], device: str = "cpu"
) -> None:
    """Train a tiny model for two steps, carry its state over, and go on with a third.

    The steps are compared with plain torch, for SGD with momentum (which feels the clipping) and
    for AdamW. Under torchrun every process calls this.

    Raises:
        AssertionError: the engine computes, exchanges or restores something else.
    """
    engine = check_part(engine_class, settings)
    for hardware in (Hardware(gpus=0, processes=1), Hardware(gpus=2, processes=2)):
        fit = engine_class.suits(hardware)
        require(isinstance(fit, int) and fit >= 0, f"suits() must return 0 or more, not {fit!r}.")
    engine.start(device)
    try:
        _check_exchange(engine)
        for optimizer in ("sgd", "adamw"):
            _check_training(engine_class, engine, optimizer, device)
        _check_dropout(engine)
    finally:
        engine.finish()


def _check_exchange(engine: Engine) -> None:
    rank, processes = engine.rank, engine.processes
    require(0 <= rank < processes, f"start() must set rank and processes, not {rank}, {processes}.")
    sums = engine.sum([rank + 1.0, 0.1])
    expected = [processes * (processes + 1) / 2, 0.1 * processes]
    require(np.allclose(sums, expected), f"sum() of all processes gives {sums}, not {expected}.")
    own = np.full((rank + 1, 2), rank, np.float32)
    gathered = engine.gather(own)
    require(
        [array.tolist() for array in gathered] == [[[r, r]] * (r + 1) for r in range(processes)],
        f"gather() must return each process's array in the order of ranks, not {gathered}.",
    )
    value = {"stop": False, "name": "film", "numbers": [1, 2.5, None]}
    received = engine.broadcast(value if rank == 0 else None)
    require(received == value, f"broadcast() must return what process 0 has, not {received!r}.")
    _check_broadcast_tensors(engine)
    require(engine.is_main_process == (rank == 0), "process 0, and it alone, must speak.")


def _check_broadcast_tensors(engine: Engine) -> None:
    import torch

    sent = {
        "weights": torch.tensor([[0.5, -1.0]]),
        "step": torch.tensor(3.0),
        "counts": torch.tensor([1, 2]),
    }
    received = engine.broadcast_tensors(sent if engine.rank == 0 else {})
    alike = received.keys() == sent.keys() and all(
        received[name].dtype == tensor.dtype and received[name].equal(tensor)
        for name, tensor in sent.items()
    )
    require(alike, f"broadcast_tensors() must return what process 0 has, not {received}.")


def _check_training(
    engine_class: type[Engine], engine: Engine, optimizer: str, device: str
) -> None:
    from sentikit.testing.tiny_training import tiny_training

    training = tiny_training(engine, optimizer)
    reference = training.reference()
    engine.prepare(training.model, training.groups, training.plan)
    before = engine.weights()
    first = copy.deepcopy(before)
    for number, (rates, batch) in enumerate(zip(_RATES[:2], training.batches, strict=False), 1):
        norm = run_step(engine, training, batch, rates)
        expected_norm = reference.step(batch, rates)
        require(
            abs(float(norm) - expected_norm) < 1e-3 * expected_norm,
            f"step() must return the gradients' norm before clipping: {optimizer}, "
            f"{float(norm):.6g} instead of {expected_norm:.6g}.",
        )
        what = f"weights after step {number} of {optimizer}"
        _same(engine, engine.weights(), reference.weights(), what, 1e-4)
    _same(engine, before, first, "weights() taken earlier, which later steps must not touch", 0.0)
    _check_carried_over(engine_class, engine, training, device)


def _check_carried_over(
    engine_class: type[Engine], engine: Engine, training: TinyTraining, device: str
) -> None:
    """A fresh engine given weights and optimizer state must go on as if nothing had happened."""
    from sentikit.testing.tiny_training import tiny_training

    weights, state = engine.weights(), engine.optimizer_state()
    parameters = {name for group in training.groups for name in group.parameters}
    strangers = {key for key in state if key.rpartition("/")[0] not in {*parameters, "loss"}}
    require(not strangers, f"optimizer_state() must be keyed parameter/key, not {strangers}.")
    other = engine_class(engine.settings)
    other.start(device)
    copied = tiny_training(other, training.plan.optimizer.name, seed=7)
    other.prepare(copied.model, copied.groups, copied.plan)
    other.load_weights(engine.broadcast_tensors(weights))
    other.load_optimizer_state(engine.broadcast_tensors(state))
    _same(engine, other.weights(), weights, "load_weights(weights())", 0.0)
    _same(engine, other.optimizer_state(), state, "load_optimizer_state(optimizer_state())", 0.0)
    for each in (engine, other):
        run_step(each, training, training.batches[2], _RATES[2])
    _same(engine, other.weights(), engine.weights(), "the step after a restart", 1e-6)


def _check_dropout(engine: Engine) -> None:
    from sentikit.testing.tiny_training import tiny_training

    training = tiny_training(engine, "sgd", dropout=0.5)
    engine.prepare(training.model, training.groups, training.plan)
    inputs = training.batches[0].inputs
    for on in (False, True):
        engine.training_mode(on)
        first, second = (engine.forward(*inputs).detach().cpu() for _ in range(2))
        require(
            bool((first == second).all()) != on,
            f"training_mode({on}) must switch dropout {'on' if on else 'off'}.",
        )
    require(str(first.dtype) == "torch.float32", f"forward() gives {first.dtype}, not float32.")


def run_step(
    engine: Engine, training: TinyTraining, batch: Batch, rates: Sequence[float]
) -> Tensor | float:
    """Run one optimizer step as the training loop does, in micro-batches; return its norm."""
    import torch

    engine.training_mode(True)
    own = batch.share(engine.rank, engine.processes)
    pieces = own.pieces(training.plan.micro_batch_size)
    for number, piece in enumerate(pieces, 1):
        with engine.micro_step(last=number == len(pieces)):
            logits = engine.forward(*piece.inputs)
            gold = piece.gold.to(logits.device)
            loss = torch.nn.functional.cross_entropy(logits, gold, reduction="sum") / len(batch)
            engine.backward(loss * engine.processes)
    return engine.step(rates)


def _same(
    engine: Engine,
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    what: str,
    tolerance: float,
) -> None:
    """Compare tensors by name, on the process that has them."""
    import torch

    if not engine.is_main_process:
        return
    require(found.keys() == expected.keys(), f"{what}: names {set(found) ^ set(expected)} differ.")
    for name, tensor in found.items():
        where = f"{what}: {name}"
        require(tensor.device.type == "cpu", f"{where} is not on the CPU.")
        difference = (tensor.double() - expected[name].double()).abs().max().item()
        require(difference <= tolerance, f"{where} is off by {difference:.3g}.")
        floating = tensor.is_floating_point()
        require(not floating or tensor.dtype == torch.float32, f"{where} is {tensor.dtype}.")
