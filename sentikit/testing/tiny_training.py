"""A model of a few hundred weights, data for it, and plain torch to compare an engine with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from sentikit.training.engine import Engine, StepPlan
from sentikit.training.parameters import ParameterGroup
from sentikit.training.settings import Optimizer

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer

_TEXTS, _PIECES, _VOCABULARY, _CLASSES = 8, 5, 17, 3
#: Far below the gradients' norm, so that clipping shows.
_CLIP_NORM = 0.05


class TinyModel(nn.Module):
    """Word pieces to logits: embeddings, their mean, dropout and one layer."""

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
        """Return every `processes`-th row from `rank` on."""
        ids, mask = self.inputs
        return Batch((ids[rank::processes], mask[rank::processes]), self.gold[rank::processes])

    def pieces(self, size: int) -> list[Batch]:
        """Cut into pieces of at most `size` rows."""
        (ids, mask), gold = self.inputs, self.gold
        starts = range(0, len(gold), size)
        return [Batch((ids[s : s + size], mask[s : s + size]), gold[s : s + size]) for s in starts]


@dataclass(frozen=True)
class TinyTraining:
    """What an engine is prepared with, and three batches."""

    model: TinyModel
    groups: list[ParameterGroup]
    plan: StepPlan
    batches: list[Batch]

    def reference(self) -> Reference:
        """Return plain torch over a copy of the model as it is now."""
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
    """The same training without an engine, a whole batch at a time."""

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
    chosen: Optimizer = TypeAdapter(Optimizer).validate_python(
        {"name": optimizer, **({"momentum": 0.9} if optimizer == "sgd" else {})}
    )
    micro_batch = max(1, _TEXTS // engine.processes // 2)
    plan = StepPlan(chosen, _CLIP_NORM, "fp32", _TEXTS, micro_batch)
    return TinyTraining(model, groups, plan, [_batch(generator) for _ in range(3)])


def _batch(generator: torch.Generator) -> Batch:
    ids = torch.randint(0, _VOCABULARY, (_TEXTS, _PIECES), generator=generator)
    mask = torch.ones_like(ids)
    mask[::2, _PIECES - 2 :] = 0
    gold = torch.randint(0, _CLASSES, (_TEXTS,), generator=generator)
    return Batch((ids, mask), gold)
