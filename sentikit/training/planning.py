"""The plan of a training run, for ``--dry-run``: counts, steps, parameters and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sentikit.errors import InputError, SentikitError
from sentikit.training.data import Splits, load_splits, repeated_rows, steps_per_epoch
from sentikit.training.engine import MemoryNeed, ModelSize
from sentikit.training.job import build_model
from sentikit.training.parameters import freeze, parameter_groups
from sentikit.training.recipe import ClassifierComponents, TrainComponents, TrainData

if TYPE_CHECKING:
    from sentikit.classifiers.torch_model import SentimentModel

_MIB = 2**20


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training run.

    `counts` are examples by split and label, or the reason why they are unknown; `memory` is what
    one process needs, by the engine's ways to distribute the state. A classifier that trains itself
    has neither engine nor parameters.
    """

    recipe: str
    counts: dict[str, Any] | str
    processes: int
    engine: str = ""
    steps_per_epoch: int | None = None
    total_steps: int | None = None
    parameters: int = 0
    trained_parameters: int = 0
    groups: list[dict[str, Any]] = field(default_factory=list)
    memory: Mapping[str, MemoryNeed] = field(default_factory=dict)

    def to_text(self) -> str:
        lines = [self.recipe.rstrip(), ""]
        if self.engine:
            lines.append(f"engine          {self.engine}")
        if isinstance(self.counts, str):
            lines.append(f"examples        unknown: {self.counts}")
        else:
            for name, labels in self.counts.items():
                by_label = ", ".join(f"{label} {count:,}" for label, count in labels.items())
                lines.append(f"{name:<15} {sum(labels.values()):,} ({by_label})")
        if self.total_steps:
            lines.append(
                f"steps           {self.total_steps:,} ({self.steps_per_epoch:,} per epoch)"
            )
        if self.parameters:
            lines += [
                f"parameters      {self.parameters:,}, {self.trained_parameters:,} of them trained",
                f"memory          per process ({self.processes} in all), without activations",
                *(_memory_line(name, need) for name, need in self.memory.items()),
            ]
        return "\n".join([*lines, "Nothing was written."])


def _memory_line(name: str, need: MemoryNeed) -> str:
    spelled = ", ".join(f"{item} {size / _MIB:,.0f}" for item, size in asdict(need).items() if size)
    return f"  {name:<13} {need.total / _MIB:>7,.0f} MiB ({spelled})"


def plan_training(
    components: TrainComponents | ClassifierComponents, processes: int = 1
) -> TrainingPlan:
    """Plan a run without loading weights; the model is built on the meta device."""
    splits, recipe = _splits(components), components.recipe.to_yaml()
    counts = (
        splits if isinstance(splits, str) else _counts(splits, components.dataset.scheme.classes)
    )
    if isinstance(components, ClassifierComponents):
        return TrainingPlan(recipe, counts, processes)
    training, model = components.training, meta_model(components)
    freeze(model, training.finetune_layers)
    groups = [
        {
            "name": group.name,
            "parameters": sum(p.numel() for p in group.parameters.values()),
            "lr": group.lr,
            "weight_decay": group.weight_decay,
        }
        for group in parameter_groups(model, training)
    ]
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    epoch = None
    if isinstance(splits, Splits):
        rows = repeated_rows(splits.train, training.oversample)
        epoch = steps_per_epoch(len(rows), training.batch_size)
    return TrainingPlan(
        recipe,
        counts,
        processes,
        engine=type(components.engine).__name__,
        steps_per_epoch=epoch,
        total_steps=None if epoch is None else epoch * training.epochs,
        parameters=parameters,
        trained_parameters=trained,
        groups=groups,
        memory=components.engine.memory(
            ModelSize(parameters, trained, training.optimizer.moments), processes
        ),
    )


def meta_model(components: TrainComponents) -> SentimentModel:
    """Build the model on the meta device: shapes without weights."""
    import torch

    with torch.device("meta"):
        return build_model(components, pretrained=False)


def _splits(components: TrainData) -> Splits | str:
    """Load the splits, or return why they are not available, which does not stop a plan."""
    try:
        return load_splits(components, validated=not isinstance(components, ClassifierComponents))
    except InputError:
        raise
    except SentikitError as error:
        return error.message


def _counts(splits: Splits, classes: Sequence[str]) -> dict[str, Any]:
    found = {name: Counter(examples.labels) for name, examples in splits.items()}
    return {name: {label: counts[label] for label in classes} for name, counts in found.items()}
