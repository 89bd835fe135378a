"""The recipe of kind `train`: its sections, its settings, and the components it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from sentikit.classifiers.encoder import Encoder, EncoderOptions
from sentikit.classifiers.head import Head, HeadOptions
from sentikit.components import (
    PartSettings,
    Path,
    Problem,
    Section,
    check_section,
    refuse,
    validate,
)
from sentikit.datasets.opening import OpenedDataset, check_dataset
from sentikit.recipe.resolving import ResolvedRecipe, refuse_other_kind
from sentikit.registry import Registry
from sentikit.tracking import Trackers, check_trackers
from sentikit.training.engine import check_engine
from sentikit.training.optimizers import AdamW, Optimizer
from sentikit.training.schedules import Linear, Schedule

if TYPE_CHECKING:
    from sentikit.tracking import Tracker
    from sentikit.training.engine import Engine


class EarlyStopping(PartSettings):
    """When to stop before the last epoch.

    ``patience`` epochs without an improvement of more than ``tolerance``, or ``target`` reached.
    The weights that are kept are the best ones, by however little.
    """

    metric: Literal["macro_f1", "accuracy", "loss"] = Field(
        "macro_f1", description="what is watched on the validation split"
    )
    patience: int | None = Field(None, ge=1, description="epochs without improvement; null: never")
    tolerance: float = Field(0.0, ge=0, description="an improvement must be more than this")
    target: float | None = Field(None, description="stop once the metric is this good")

    def improves(self, value: float, best: float | None) -> bool:
        """Say whether `value` beats `best` by more than the tolerance."""
        return self.is_better(value, best, self.tolerance)

    def is_better(self, value: float, best: float | None, by_more_than: float = 0.0) -> bool:
        """Say whether `value` beats `best`, which may not be there yet."""
        if best is None:
            return True
        return value < best - by_more_than if self.metric == "loss" else value > best + by_more_than

    def reached(self, value: float) -> bool:
        """Say whether the target is reached."""
        if self.target is None:
            return False
        return value <= self.target if self.metric == "loss" else value >= self.target


class Checkpoints(PartSettings):
    """When the state is saved, so that a killed run goes on."""

    every_epochs: int | None = Field(1, ge=1, description="epochs between checkpoints; null: none")
    every_minutes: float | None = Field(10, gt=0, description="minutes between checkpoints")
    keep: int = Field(1, ge=1, description="checkpoints kept; older ones are removed")


#: Settings that may change when a run is resumed: how often to save, how steps run, when to stop.
CHANGEABLE = frozenset(
    "checkpoints early_stopping log_every micro_batch_size micro_batch_tokens prefetch "
    "workers".split()
)


class LoopSettings(PartSettings):
    """How a model is trained, whatever it is. Sizes count texts, rates are per optimizer step."""

    epochs: int = Field(3, ge=1, description="passes over the training split")
    batch_size: int = Field(
        32, ge=1, description="texts per optimizer step, over all processes and micro-batches"
    )
    micro_batch_size: int | None = Field(
        None, ge=1, description="texts per forward pass and process; null: as many as sensible"
    )
    micro_batch_tokens: int | None = Field(
        None, ge=8, description="word pieces per forward pass and process; null: what fits easily"
    )
    lr: float = Field(5e-5, gt=0, description="learning rate")
    optimizer: Optimizer = Field(default_factory=AdamW, description="name and own arguments")
    weight_decay: float = Field(0.01, ge=0, description="decoupled for adamw, L2 for the others")
    schedule: Schedule = Field(default_factory=Linear, description="name and own arguments")
    warmup: float = Field(
        0.1, ge=0, description="steps of rising rate: a count, or a share of all steps below 1"
    )
    clip_norm: float | None = Field(1.0, gt=0, description="gradient norm limit; null: none")
    early_stopping: EarlyStopping = Field(default_factory=EarlyStopping)
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device is faster with it, else fp32"
    )
    prefetch: int = Field(
        2, ge=0, le=64, description="batches made ready ahead of their step; 0: none"
    )
    workers: int = Field(1, ge=1, le=64, description="threads that make batches ready")
    log_every: int = Field(
        10, ge=1, description="steps between two log lines; each makes the device wait"
    )
    seed: int = Field(
        42, ge=0, lt=2**63, description="decides initial weights, data order and dropout"
    )

    def deciding(self) -> dict[str, Any]:
        """Return, as JSON values, all settings but those that may change on a resume.

        When to stop may change, but not by what: the best value so far is one of the metric's.
        """
        deciding = self.model_dump(mode="json", exclude=set(CHANGEABLE))
        return deciding | {"early_stopping": {"metric": self.early_stopping.metric}}

    @model_validator(mode="after")
    def _fits_batch(self) -> Self:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide "
                f"batch_size {self.batch_size}"
            )
        return self


class TrainingSettings(LoopSettings):
    """How to train an encoder with its head."""

    lr: float = Field(5e-5, gt=0, description="learning rate of the encoder's top layer")
    head_lr: float | None = Field(None, gt=0, description="learning rate of the head; null: lr")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each layer's rate is this times that of the layer above"
    )
    finetune_layers: Annotated[int, Field(ge=1)] | Literal["all", "none"] = Field(
        "all", description="all, none (train only the head), or how many of the last layers"
    )
    decay_biases: bool = Field(False, description="decay biases and norms as well")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="mass spread over all classes")
    class_weights: Literal["none", "balanced"] | dict[str, float] = Field(
        "none", description="none, balanced (inverse frequency), or class: weight"
    )


class TrainRecipe(PartSettings):
    """Train an encoder with a head: ``kind: train``."""

    kind: Literal["train"] = "train"
    description: str = Field("", description="one line for the lists")
    dataset: Section = Field(description="a dataset's name and settings")
    evaluation_dataset: Section | None = Field(
        None, description="another dataset to validate and test on"
    )
    encoder: Section = Field(description="an encoder's name and settings")
    head: Section = Field(description="a head's name and settings, and pooling")
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    engine: Section = Field(
        default_factory=lambda: {"name": "auto"}, description="an engine's name and settings"
    )
    trackers: Trackers = Field(
        default_factory=list, description="trackers by name, or with name and settings"
    )


@dataclass(frozen=True)
class TrainParts:
    """Everything a training run is made of.

    Attributes:
        recipe: the resolved recipe, as written beside the run.
        dataset: train, validation and test.
        evaluation_dataset: validation and test, where they come from elsewhere.
        encoder: tokenizer and backbone.
        encoder_options: the core's keys of the section.
        head: the layers above the pooling.
        head_options: the pooling.
        training: how to train.
        engine: how steps run.
        trackers: where the run is shown besides, by name.
    """

    recipe: ResolvedRecipe
    dataset: OpenedDataset
    evaluation_dataset: OpenedDataset | None
    encoder: Encoder
    encoder_options: EncoderOptions
    head: Head
    head_options: HeadOptions
    training: TrainingSettings
    engine: Engine
    trackers: Mapping[str, Tracker]

    def dataset_for(self, split: str) -> OpenedDataset:
        """Return the dataset that `split` is read from."""
        return self.dataset if split == "train" else self.evaluation_dataset or self.dataset


def train_parts(recipe: ResolvedRecipe, registry: Registry) -> TrainParts:
    """Make the parts of a train recipe.

    Raises:
        InputError: anything wrong with the recipe; all problems at once, each with its place.
    """
    refuse_other_kind(recipe, "train")
    parts, problems = check_train(recipe, registry)
    refuse(problems, recipe.describe)
    assert parts is not None
    return parts


def check_train(
    recipe: ResolvedRecipe, registry: Registry
) -> tuple[TrainParts | None, list[Problem]]:
    """Make the parts, or say all that is wrong; no data and no model is touched."""
    settings, problems = validate(TrainRecipe, recipe.values)
    raw = recipe.values
    made: dict[str, Any] = {}
    for section, check in _SECTION_CHECKS.items():
        if isinstance(raw.get(section), dict):
            found, more = check(registry, raw[section], (section,))
            made |= found
            problems += more
    engine, more = check_engine(registry, raw.get("engine", {"name": "auto"}), ("engine",))
    problems += more
    made["trackers"], more = check_trackers(registry, raw.get("trackers", []))
    problems += more
    problems += _useless_holdout(made) + _other_classes(made)
    if problems or settings is None:
        return None, problems
    made.setdefault("evaluation_dataset", None)
    return TrainParts(
        recipe=recipe, training=settings.training, engine=cast("Engine", engine), **made
    ), []


def _useless_holdout(made: Mapping[str, Any]) -> list[Problem]:
    """Refuse to take examples from training for a validation that another dataset does."""
    dataset = made.get("dataset")
    if made.get("evaluation_dataset") is None or dataset is None:
        return []
    if not dataset.options.validation_holdout:
        return []
    message = "has no use where evaluation_dataset validates. Leave one of the two out."
    return [Problem(("dataset", "validation_holdout"), message)]


def _other_classes(made: Mapping[str, Any]) -> list[Problem]:
    """Refuse an evaluation dataset whose classes are not those that are learnt."""
    dataset, judge = made.get("dataset"), made.get("evaluation_dataset")
    if dataset is None or judge is None or dataset.scheme.classes == judge.scheme.classes:
        return []
    learnt, judged = (", ".join(opened.scheme.classes) for opened in (dataset, judge))
    message = f"the classes are {judged}, those of dataset {learnt}. Give both the same labels."
    return [Problem(("evaluation_dataset", "labels"), message)]


def _dataset(registry: Registry, raw: Any, path: Path) -> tuple[dict[str, Any], list[Problem]]:
    dataset, problems = check_dataset(registry, raw, path)
    return {str(path[0]): dataset}, problems


def _encoder(registry: Registry, raw: Any, path: Path) -> tuple[dict[str, Any], list[Problem]]:
    part, options, problems = check_section(
        registry, "register_encoders", EncoderOptions, raw, path, Encoder
    )
    return {"encoder": part, "encoder_options": options}, problems


def _head(registry: Registry, raw: Any, path: Path) -> tuple[dict[str, Any], list[Problem]]:
    part, options, problems = check_section(
        registry, "register_heads", HeadOptions, raw, path, Head
    )
    return {"head": part, "head_options": options}, problems


_SECTION_CHECKS = {
    "dataset": _dataset,
    "evaluation_dataset": _dataset,
    "encoder": _encoder,
    "head": _head,
}
