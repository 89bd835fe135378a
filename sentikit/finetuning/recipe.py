"""The sections of a recipe of kind `finetune`; the parts check their own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sentikit.components import PartSettings, Section
from sentikit.tracking import Trackers


class FinetuneRecipe(PartSettings):
    """Teach an LLM: ``kind: finetune``."""

    kind: Literal["finetune"] = "finetune"
    description: str = Field("", description="one line for the lists")
    dataset: Section = Field(description="a dataset's name and settings")
    strategy: Section = Field(
        default_factory=lambda: {"name": "zero-shot"},
        description="the prompt strategy whose messages are learnt, and the encoder it listens to",
    )
    finetune: Section = Field(
        description="the LLM backend that teaches (as provider:), its settings, and the splits"
    )
    engine: Section | None = Field(
        None, description="an engine's name and settings, where the provider trains here"
    )
    trackers: Trackers = Field(
        default_factory=list, description="trackers by name, or with name and settings"
    )
