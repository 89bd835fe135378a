"""The sections of a recipe of kind `prompt`; the parts check their own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sentikit.components import PartSettings, Section
from sentikit.tracking import Trackers


class PromptRecipe(PartSettings):
    """Label a split with an LLM: ``kind: prompt``."""

    kind: Literal["prompt"] = "prompt"
    description: str = Field("", description="one line for the lists")
    dataset: Section = Field(description="a dataset's name and settings")
    split: str = Field("test", description="the split to label")
    llm: Section = Field(description="an LLM backend's name (as backend:) and settings")
    strategy: Section = Field(
        default_factory=lambda: {"name": "zero-shot"},
        description="a prompt strategy's name and settings, and the encoder it listens to",
    )
    trackers: Trackers = Field(
        default_factory=list, description="trackers by name, or with name and settings"
    )
