"""The sections of a recipe, by kind. Sections of parts are checked by the parts' own schemas."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from sentikit.parts import PartSettings
from sentikit.training.settings import TrainingSettings

Section = dict[str, Any]


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


#: The schema of each recipe kind.
KINDS: dict[str, type[BaseModel]] = {"train": TrainRecipe}
