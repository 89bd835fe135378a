"""The recipe of kind `train`: its sections, and the components they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

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
from sentikit.training.settings import TrainingSettings

if TYPE_CHECKING:
    from sentikit.tracking import Tracker
    from sentikit.training.engine import Engine


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
    only = part.only_pooling if isinstance(part, Head) else None
    if only is not None and isinstance(options, HeadOptions) and options.pooling != only:
        if "pooling" in options.model_fields_set:
            message = f"the head {raw['name']!r} works with pooling {only} alone"
            problems = [*problems, Problem((*path, "pooling"), message)]
        options = HeadOptions(pooling=only)
    return {"head": part, "head_options": options}, problems


_SECTION_CHECKS = {
    "dataset": _dataset,
    "evaluation_dataset": _dataset,
    "encoder": _encoder,
    "head": _head,
}
