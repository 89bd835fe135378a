"""What a training run would do: counts, steps, parameters and memory, without touching anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from sentikit.classifiers.torch_model import SentimentModel
from sentikit.errors import InputError, SentikitError
from sentikit.training.batches import steps_per_epoch
from sentikit.training.data import Splits, load_splits, repeated_rows
from sentikit.training.engine import MemoryNeed, ModelSize
from sentikit.training.parameters import add_adapters, freeze, parameter_groups
from sentikit.training.recipe import ClassifierParts, TrainData, TrainParts

_MIB = 2**20


@dataclass(frozen=True)
class TrainingPlan:
    """What would be done.

    Attributes:
        recipe: the resolved recipe as YAML.
        engine: the engine that would run it; "" for a classifier that trains itself.
        counts: examples by split and label, or the reason they are not known here.
        steps_per_epoch: optimizer steps, where the counts are known.
        total_steps: of all epochs.
        parameters: of the whole model.
        trained_parameters: those that are not frozen.
        groups: name, parameters, base rate and weight decay of each optimizer group.
        processes: how many would share the work.
        memory: what one of them needs, by the engine's ways to spread the state.
    """

    recipe: str
    engine: str
    counts: dict[str, Any] | str
    steps_per_epoch: int | None
    total_steps: int | None
    parameters: int
    trained_parameters: int
    groups: tuple[dict[str, Any], ...]
    processes: int
    memory: dict[str, MemoryNeed]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the plan for a reader."""
        lines = [self.recipe.rstrip(), ""]
        if self.engine:
            lines.append(f"engine          {self.engine}")
        if isinstance(self.counts, str):
            lines.append(f"examples        not known here: {self.counts}")
        else:
            lines += [_split_line(name, labels) for name, labels in self.counts.items()]
        if self.total_steps:
            lines.append(
                f"steps           {self.total_steps:,} ({self.steps_per_epoch:,} an epoch)"
            )
        if self.parameters:
            lines += self._memory_lines()
        return "\n".join([*lines, "Nothing was written."])

    def _memory_lines(self) -> list[str]:
        return [
            f"parameters      {self.parameters:,}, {self.trained_parameters:,} of them trained",
            f"memory          of one of {self.processes} processes, activations left out",
            *(_memory_line(name, need) for name, need in self.memory.items()),
        ]


def _split_line(name: str, labels: dict[str, int]) -> str:
    by_label = ", ".join(f"{label} {count:,}" for label, count in labels.items())
    return f"{name:<15} {sum(labels.values()):,} ({by_label})"


def _memory_line(name: str, need: MemoryNeed) -> str:
    items = ("weights", "gradients", "optimizer", "buffers")
    spelled = ", ".join(
        f"{item} {getattr(need, item) / _MIB:,.0f}" for item in items if getattr(need, item)
    )
    return f"  {name:<13} {need.total / _MIB:>7,.0f} MiB ({spelled})"


def plan_training(parts: TrainParts | ClassifierParts, processes: int = 1) -> TrainingPlan:
    """Plan a run from its parts; weights are never loaded, the model is built without memory.

    Args:
        parts: of the recipe.
        processes: how many would share the work.

    Raises:
        InputError: the recipe's freezing or layer decay does not fit the encoder.
    """
    if isinstance(parts, ClassifierParts):
        return TrainingPlan(
            parts.recipe.to_yaml(),
            "",
            _counts(parts, _splits(parts)),
            None,
            None,
            0,
            0,
            (),
            processes,
            {},
        )
    model = shape_of(parts)
    freeze(model, parts.training.finetune_layers)
    groups = parameter_groups(model, parts.training)
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for g in groups for p in g.parameters.values())
    splits = _splits(parts)
    epoch = None
    if isinstance(splits, Splits):
        rows = repeated_rows(splits.train, parts.training.oversample)
        epoch = steps_per_epoch(len(rows), parts.training.batch_size)
    return TrainingPlan(
        recipe=parts.recipe.to_yaml(),
        engine=type(parts.engine).__name__,
        counts=_counts(parts, splits),
        steps_per_epoch=epoch,
        total_steps=None if epoch is None else epoch * parts.training.epochs,
        parameters=parameters,
        trained_parameters=trained,
        groups=tuple(
            {
                "name": group.name,
                "parameters": sum(p.numel() for p in group.parameters.values()),
                "lr": group.lr,
                "weight_decay": group.weight_decay,
            }
            for group in groups
        ),
        processes=processes,
        memory=parts.engine.memory(
            ModelSize(parameters, trained, parts.training.optimizer.moments), processes
        ),
    )


def shape_of(parts: TrainParts) -> SentimentModel:
    """Build the model on the meta device: shapes without weights."""
    import torch

    config = parts.encoder.load_config()
    with torch.device("meta"):
        backbone = parts.encoder.build_backbone(config)
        if parts.encoder_options.lora is not None:
            add_adapters(backbone, parts.encoder_options.lora)
        classes = len(parts.dataset.scheme.classes)
        head = parts.head.build_on(config, classes)
    return SentimentModel(backbone, head, parts.head_options.pooling)


def _splits(parts: TrainData) -> Splits | str:
    """Load the data, or return why they are not here, which is no mistake yet."""
    try:
        return load_splits(parts, validated=not isinstance(parts, ClassifierParts))
    except InputError:
        raise
    except SentikitError as error:
        return error.message


def _counts(parts: TrainData, splits: Splits | str) -> dict[str, Any] | str:
    """Return examples by split and label, or why they are not known."""
    if isinstance(splits, str):
        return splits
    order = parts.dataset.scheme.classes
    return {
        name: {label: counts[label] for label in order}
        for name, counts in ((n, Counter(e.labels)) for n, e in splits.items())
    }
