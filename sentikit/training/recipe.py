"""The recipe of kind `train`: its sections, and the components they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

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
from sentikit.tracking import Trackers, check_trackers
from sentikit.training.engine import check_engine
from sentikit.training.settings import TrainingSettings, unsuitable_metric

if TYPE_CHECKING:
    from sentikit.classifiers.plugin_classifier import PluginClassifier
    from sentikit.tracking import Tracker
    from sentikit.training.engine import Engine


class TrainRecipe(ComponentSettings):
    """Train an encoder with a head, or a classifier that trains itself: ``kind: train``."""

    kind: Literal["train"] = "train"
    description: str = Field("", description="one line for the lists")
    dataset: Section = Field(description="a dataset's name and settings")
    evaluation_dataset: Section | None = Field(
        None, description="another dataset to validate and test on"
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
        """Refuse files and splits that are missing; `validated`: one to validate on is needed."""
        self.dataset.check_split("train")
        judge = self.dataset_for("validation")
        if validated and "validation" not in judge.splits:
            raise InputError(
                f"The dataset {judge.name!r} has no validation split to "
                "choose the best epoch by. Set dataset.validation_holdout, as 10% or 500."
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
    """Make the components, or say all that is wrong; no data and no model is touched."""
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
    problems += _judge_problems(made)
    if settings is not None and made.get("dataset") is not None:
        metric = settings.training.early_stopping.metric
        if said := unsuitable_metric(metric, made["dataset"].scheme, registry):
            problems.append(Problem(("training", "early_stopping", "metric"), said))
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
            Problem((name,), "this section is needed, or a classifier section instead.")
            for name in sections
            if name not in raw
        ]
    idle = [name for name in (*sections, "engine") if name in raw]
    message = "has no use beside a classifier, which trains itself. Leave one of the two out."
    return [Problem((name,), message) for name in idle]


def _classifier(registry: Registry, raw: Any, path: Path) -> tuple[dict[str, Any], list[Problem]]:
    part, problems = check_component(registry, "register_classifiers", raw, path)
    if part is not None and not cast("PluginClassifier", part).learns():
        message = f"{raw['name']!r} needs no training. Give its name to sentikit predict."
        problems.append(Problem((*path, "name"), message))
    return {}, problems


def _judge_problems(made: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what does not fit between the dataset that is learnt and the one that judges."""
    dataset, judge = made.get("dataset"), made.get("evaluation_dataset")
    if dataset is None or judge is None:
        return
    if dataset.options.validation_holdout:
        message = "has no use where evaluation_dataset validates. Leave one of the two out."
        yield Problem(("dataset", "validation_holdout"), message)
    if dataset.scheme.classes != judge.scheme.classes:
        learnt, judged = (", ".join(opened.scheme.classes) for opened in (dataset, judge))
        message = f"the classes are {judged}, those of dataset {learnt}. Give both the same labels."
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
        message = f"the head {raw.get('name')!r} does not pool; use cls, mean, max or last."
        problems = [*problems, Problem((*path, "pooling"), message)]
    if only is not None and isinstance(options, HeadOptions) and options.pooling != only:
        if "pooling" in options.model_fields_set:
            message = f"the head {raw['name']!r} works with pooling {only} alone"
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
