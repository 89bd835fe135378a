"""Recipes of kind `train`: their schema and components."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from sentikit.classifiers.classifier import asks_llms
from sentikit.classifiers.encoder import Encoder, EncoderOptions, Head, HeadOptions
from sentikit.components import (
    ComponentSettings,
    Path,
    Problem,
    Section,
    check_component,
    check_section,
    refuse,
    validate,
)
from sentikit.datasets.opening import OpenedDataset, check_dataset
from sentikit.errors import InputError
from sentikit.recipe.resolving import ResolvedRecipe, refuse_other_kind
from sentikit.registry import Registry
from sentikit.tracking import Tracker, Trackers, check_trackers
from sentikit.training.engine import Engine, check_engine
from sentikit.training.settings import TrainingSettings, unsuitable_metric

if TYPE_CHECKING:
    from sentikit.classifiers.plugin_classifier import PluginClassifier
    from sentikit.classifiers.torch_model import SentimentModel


class TrainRecipe(ComponentSettings):
    """Train an encoder with a head, or a classifier that trains itself: ``kind: train``."""

    kind: Literal["train"] = "train"
    description: str = Field("", description="one line for `sentikit recipes list`")
    dataset: Section = Field(description="a dataset's name and settings")
    evaluation_dataset: Section | None = Field(
        None, description="another dataset for validation and test"
    )
    encoder: Section | None = Field(None, description="an encoder's name and settings")
    head: Section | None = Field(None, description="a head's name and settings, and pooling")
    classifier: Section | None = Field(
        None, description="instead of encoder and head: a classifier that trains itself"
    )
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    engine: Section = Field(
        default_factory=lambda: {"name": "auto"}, description="an engine's name and settings"
    )
    trackers: Trackers = Field(
        default_factory=list, description="trackers by name, or with name and settings"
    )


@dataclass(frozen=True)
class TrainData:
    recipe: ResolvedRecipe
    dataset: OpenedDataset
    evaluation_dataset: OpenedDataset | None
    training: TrainingSettings
    trackers: Mapping[str, Tracker]

    def dataset_for(self, split: str) -> OpenedDataset:
        return self.dataset if split == "train" else self.evaluation_dataset or self.dataset

    def check_splits(self, validated: bool = True) -> None:
        """Refuse missing files and splits; `validated` is whether a validation split is needed."""
        self.dataset.check_split("train")
        evaluation = self.dataset_for("validation")
        if validated and "validation" not in evaluation.splits:
            raise InputError(
                f"The dataset {evaluation.name!r} has no validation split, which chooses the best "
                "epoch. Set dataset.validation_holdout, for example to 10% or 500."
            )


@dataclass(frozen=True)
class ClassifierComponents(TrainData):
    classifier: Section
    registry: Registry


@dataclass(frozen=True)
class TrainComponents(TrainData):
    encoder: Encoder
    encoder_options: EncoderOptions
    head: Head
    head_options: HeadOptions
    engine_section: Section
    registry: Registry

    @cached_property
    def engine(self) -> Engine:
        """The engine; `auto` is chosen when it is first asked for, which imports torch."""
        engine, problems = check_engine(self.registry, self.engine_section, ("engine",))
        refuse(problems, self.recipe.describe)
        return cast("Engine", engine)

    def identity(self, prints: Mapping[str, str]) -> str:
        """Return a hash of what must not change when a run resumes: components, settings and data.

        `prints` are the splits' fingerprints. The settings in `CHANGEABLE` may change.
        """
        values = self.recipe.values
        names = ("dataset", "evaluation_dataset", "encoder", "head")
        fixed = {key: values.get(key) for key in names}
        text = json.dumps([fixed, self.training.deciding(), prints], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def build_model(self, pretrained: bool = True) -> SentimentModel:
        """Build the encoder with a new head, initialised from the seed."""
        import torch

        from sentikit.classifiers.torch_model import SentimentModel
        from sentikit.training.model import add_adapters

        encoder, lora = self.encoder, self.encoder_options.lora
        backbone = (
            encoder.load_backbone() if pretrained else encoder.build_backbone(encoder.load_config())
        )
        torch.manual_seed(self.training.seed)
        if lora is not None:
            if self.training.finetune_layers != "all":
                raise InputError(
                    "encoder.lora trains adapters instead of layers. Leave "
                    "training.finetune_layers at all."
                )
            add_adapters(backbone, lora)
        head = self.head.build_on(backbone.config, len(self.dataset.scheme.classes))
        return SentimentModel(backbone, head, self.head_options.pooling)

    def meta_model(self) -> SentimentModel:
        """Build the model on the meta device: shapes without weights."""
        import torch

        with torch.device("meta"):
            return self.build_model(pretrained=False)


def train_components(
    recipe: ResolvedRecipe, registry: Registry, dataset: OpenedDataset | None = None
) -> TrainComponents | ClassifierComponents:
    refuse_other_kind(recipe, "train")
    components, problems = check_train(recipe, registry, dataset)
    refuse(problems, recipe.describe)
    assert components is not None
    return components


def check_train(
    recipe: ResolvedRecipe, registry: Registry, dataset: OpenedDataset | None = None
) -> tuple[TrainComponents | ClassifierComponents | None, list[Problem]]:
    """Make the components, or return every problem, without reading data or models."""
    settings, problems = validate(TrainRecipe, recipe.values)
    raw = recipe.values
    made: dict[str, Any] = {}
    for section, check in _SECTION_CHECKS.items():
        if section == "dataset" and dataset is not None:
            made["dataset"] = dataset
        elif isinstance(raw.get(section), dict):
            found, more = check(registry, raw[section], (section,))
            made |= found
            problems += more
    problems += _learner_problems(raw)
    engine = raw.get("engine", {"name": "auto"})
    if "classifier" not in raw and engine != {"name": "auto"}:
        problems += check_engine(registry, engine, ("engine",))[1]
    made["trackers"], more = check_trackers(registry, raw.get("trackers", []))
    problems += more
    problems += _evaluation_problems(made)
    if settings is not None and made.get("dataset") is not None:
        metric = settings.training.early_stopping.metric
        if message := unsuitable_metric(metric, made["dataset"].scheme, registry):
            problems.append(Problem(("training", "early_stopping", "metric"), message))
    if problems or settings is None:
        return None, problems
    made.setdefault("evaluation_dataset", None)
    made |= {"recipe": recipe, "training": settings.training, "registry": registry}
    if settings.classifier is not None:
        return ClassifierComponents(classifier=settings.classifier, **made), []
    return TrainComponents(engine_section=engine, **made), []


def _learner_problems(raw: Mapping[str, Any]) -> list[Problem]:
    sections = ("encoder", "head")
    if "classifier" not in raw:
        return [
            Problem((name,), "this section is missing. Add it, or a classifier section instead.")
            for name in sections
            if name not in raw
        ]
    unused = [name for name in (*sections, "engine") if name in raw]
    message = "is not used by a classifier, which trains itself. Leave out one of the two."
    return [Problem((name,), message) for name in unused]


def _classifier(registry: Registry, raw: Any, path: Path) -> tuple[dict[str, Any], list[Problem]]:
    part, problems = check_component(registry, "register_classifiers", raw, path)
    if part is not None and not cast("PluginClassifier", part).learns():
        message = f"{raw['name']!r} needs no training. Use it directly with sentikit predict."
        problems.append(Problem((*path, "name"), message))
    elif part is not None and asks_llms(cast("PluginClassifier", part)):
        message = (
            "trains itself and has an LLM among its members, which training cannot pay for. Train "
            "without it, and combine both in a cascade or a vote."
        )
        problems.append(Problem((*path, "name"), message))
    return {}, problems


def _evaluation_problems(made: Mapping[str, Any]) -> Iterator[Problem]:
    dataset, evaluation = made.get("dataset"), made.get("evaluation_dataset")
    if dataset is None or evaluation is None:
        return
    if dataset.options.validation_holdout:
        message = "is not used if evaluation_dataset is set. Leave out one of the two."
        yield Problem(("dataset", "validation_holdout"), message)
    if dataset.scheme.classes != evaluation.scheme.classes:
        trained, evaluated = (", ".join(d.scheme.classes) for d in (dataset, evaluation))
        message = (
            f"the classes are {evaluated}, but those of dataset are {trained}. Give both the same "
            "labels."
        )
        yield Problem(("evaluation_dataset", "labels"), message)


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
    only = part.only_pooling if isinstance(part, Head) else None
    if only is None and options is not None and options.pooling == "head":
        message = f"the head {raw.get('name')!r} does not pool. Use cls, mean, max or last."
        problems = [*problems, Problem((*path, "pooling"), message)]
    if only is not None and isinstance(options, HeadOptions) and options.pooling != only:
        if "pooling" in options.model_fields_set:
            message = f"the head {raw['name']!r} works only with pooling {only}."
            problems = [*problems, Problem((*path, "pooling"), message)]
        options = HeadOptions(pooling=only)
    return {"head": part, "head_options": options}, problems


_SECTION_CHECKS = {
    "dataset": _dataset,
    "evaluation_dataset": _dataset,
    "classifier": _classifier,
    "encoder": _encoder,
    "head": _head,
}
