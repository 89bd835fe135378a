"""The sections of a recipe of kind `train`; the parts check their own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sentikit.components import PartSettings, Section
from sentikit.tracking import Trackers
from sentikit.training.settings import TrainingSettings


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
