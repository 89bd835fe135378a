"""Conformance checks of engines, against plain torch on a tiny model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sentikit.extension import Engine, Hardware, LoopSettings, ParameterGroup, StepPlan

from .components import check_component, require

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer


_TEXTS, _PIECES, _VOCABULARY, _CLASSES = 8, 5, 17, 3
#: Far below the gradients' norm, so that clipping has an effect.
_CLIP_NORM = 0.05


class TinyModel(nn.Module):
    """A model from word pieces to logits: embeddings, their mean, dropout and one layer."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Embedding(_VOCABULARY, 8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, _CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits, (texts, classes)."""
        mask = attention_mask.unsqueeze(-1).to(self.encoder.weight.dtype)
        pooled = (self.encoder(input_ids) * mask).sum(1) / mask.sum(1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits.float()


@dataclass(frozen=True)
class Batch:
    """Inputs and gold classes of a step."""

    inputs: tuple[Tensor, Tensor]
    gold: Tensor

    def __len__(self) -> int:
        return len(self.gold)

    def share(self, rank: int, processes: int) -> Batch:
        """Return every `processes`-th row, starting at `rank`."""
        ids, mask = self.inputs
        return Batch((ids[rank::processes], mask[rank::processes]), self.gold[rank::processes])

    def pieces(self, size: int) -> list[Batch]:
        """Split into pieces of at most `size` rows."""
        (ids, mask), gold = self.inputs, self.gold
        starts = range(0, len(gold), size)
        return [Batch((ids[s : s + size], mask[s : s + size]), gold[s : s + size]) for s in starts]


@dataclass(frozen=True)
class TinyTraining:
    """The model and settings for an engine, and three batches."""

    model: TinyModel
    groups: list[ParameterGroup]
    plan: StepPlan
    batches: list[Batch]

    def reference(self) -> Reference:
        """Return a plain torch training of a copy of the model."""
        model = copy.deepcopy(self.model).cpu().train()
        own = dict(model.named_parameters())
        groups = [
            {
                "params": [own[name] for name in group.parameters],
                "lr": group.lr,
                "weight_decay": group.weight_decay,
            }
            for group in self.groups
        ]
        if self.plan.optimizer.name == "sgd":
            return Reference(model, torch.optim.SGD(groups, momentum=0.9))
        return Reference(model, torch.optim.AdamW(groups))


@dataclass(frozen=True)
class Reference:
    """The same training without an engine, with whole batches."""

    model: nn.Module
    optimizer: TorchOptimizer

    def step(self, batch: Batch, rates: Sequence[float]) -> float:
        """Run one step; return the gradients' norm before clipping."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        loss = nn.functional.cross_entropy(self.model(*batch.inputs), batch.gold)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP_NORM)
        self.optimizer.step()
        return float(norm)

    def weights(self) -> dict[str, Tensor]:
        """Return all weights by name."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}


def tiny_training(
    engine: Engine, optimizer: str, dropout: float = 0.0, seed: int = 3
) -> TinyTraining:
    """Build a training with two parameter groups, the second without weight decay."""
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(seed)
    model = TinyModel(dropout)
    parameters = dict(model.named_parameters())
    encoder = {name: p for name, p in parameters.items() if name.startswith("encoder.")}
    head = {name: p for name, p in parameters.items() if name not in encoder}
    groups = [
        ParameterGroup("encoder", encoder, lr=0.05, weight_decay=0.01),
        ParameterGroup("head", head, lr=0.1, weight_decay=0.0),
    ]
    named = {"name": optimizer, **({"momentum": 0.9} if optimizer == "sgd" else {})}
    chosen = LoopSettings.model_validate({"optimizer": named}).optimizer
    micro_batch = max(1, _TEXTS // engine.processes // 2)
    plan = StepPlan(chosen, _CLIP_NORM, "fp32", _TEXTS, micro_batch)
    return TinyTraining(model, groups, plan, [_batch(generator) for _ in range(3)])


def _batch(generator: torch.Generator) -> Batch:
    ids = torch.randint(0, _VOCABULARY, (_TEXTS, _PIECES), generator=generator)
    mask = torch.ones_like(ids)
    mask[::2, _PIECES - 2 :] = 0
    gold = torch.randint(0, _CLASSES, (_TEXTS,), generator=generator)
    return Batch((ids, mask), gold)


#: Learning rates of the two parameter groups in the first, second and third step.
_RATES = ((0.05, 0.1), (0.02, 0.0), (0.05, 0.1))


def check_engine(
    engine_class: type[Engine], settings: Mapping[str, Any], device: str = "cpu"
) -> None:
    """Train a tiny model for two steps, carry its state over, and run a third.

    The steps are compared with plain torch, for SGD with momentum (which clipping affects) and for
    AdamW. Under torchrun every process calls this.

    Raises:
        AssertionError: the engine computes, exchanges or restores something else.
    """
    engine = check_component(engine_class, settings)
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
    require(
        engine.is_main_process == (rank == 0), "is_main_process must be true on process 0 only."
    )


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
    """Check that a new engine with the same weights and optimizer state continues identically."""
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
