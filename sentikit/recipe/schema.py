"""The sections of a recipe, by kind. Sections of parts are checked by the parts' own schemas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from sentikit.parts import PartSettings
from sentikit.recipe.trackers import as_list
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
    trackers: Annotated[list[Any], BeforeValidator(as_list)] = Field(
        default_factory=list, description="trackers by name, or with name and settings"
    )


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
    trackers: Annotated[list[Any], BeforeValidator(as_list)] = Field(
        default_factory=list, description="trackers by name, or with name and settings"
    )


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
    trackers: Annotated[list[Any], BeforeValidator(as_list)] = Field(
        default_factory=list, description="trackers by name, or with name and settings"
    )


class Tuning(PartSettings):
    """How a cascade's threshold is chosen, on validation."""

    goal: Literal["f1", "calls", "cost"] = Field(
        "f1", description="the best macro-F1, or the best one within a share of calls or a cost"
    )
    target: float | None = Field(
        None, gt=0, description="calls: share of texts sent to the LLM; cost: USD for 1,000 texts"
    )
    encoder: str | None = Field(None, description="the encoder's run on validation, if recorded")
    llm: str | None = Field(None, description="the LLM's run on validation, if recorded")

    @model_validator(mode="after")
    def _target_fits_goal(self) -> Tuning:
        if self.goal != "f1" and self.target is None:
            raise ValueError(f"goal {self.goal!r} needs a target")
        if self.goal == "f1" and self.target is not None:
            raise ValueError("goal 'f1' takes no target")
        if self.goal == "calls" and self.target is not None and self.target > 1:
            raise ValueError("a share of calls is at most 1")
        if (self.encoder is None) != (self.llm is None):
            raise ValueError("tuning needs both runs, the encoder's and the LLM's, or neither")
        return self


class CascadeSettings(PartSettings):
    """The encoder answers when its top probability is at least the threshold, the LLM the rest."""

    encoder: str = Field(description="a run, a results file, or the name of a recipe")
    llm: str = Field(description="a run, a results file, or the name of a recipe")
    threshold: float | None = Field(None, ge=0, le=1, description="top probability from which on")
    tune: Tuning | None = Field(None, description="how to choose the threshold on validation")

    @model_validator(mode="after")
    def _one_threshold(self) -> CascadeSettings:
        if (self.threshold is None) == (self.tune is None):
            raise ValueError("give either a threshold or tune")
        return self


class CascadeRecipe(PartSettings):
    """An encoder with an LLM behind it: ``kind: cascade``."""

    kind: Literal["cascade"] = "cascade"
    description: str = Field("", description="one line for the lists")
    dataset: Section | None = Field(None, description="instead of the members' own dataset")
    split: str = Field("test", description="the split to label")
    cascade: CascadeSettings


class VoteSettings(PartSettings):
    """The label most members give."""

    members: list[str] = Field(
        min_length=2, description="runs, results files or names of recipes, most trusted first"
    )
    ties: Literal["first", "probability"] = Field(
        "first",
        description="among tied labels: the first member's, or the one with the highest mean "
        "probability",
    )


class VoteRecipe(PartSettings):
    """Several classifiers vote: ``kind: vote``."""

    kind: Literal["vote"] = "vote"
    description: str = Field("", description="one line for the lists")
    dataset: Section | None = Field(None, description="instead of the members' own dataset")
    split: str = Field("test", description="the split to label")
    vote: VoteSettings


#: The schema of each recipe kind.
KINDS: dict[str, type[BaseModel]] = {
    "train": TrainRecipe,
    "prompt": PromptRecipe,
    "finetune": FinetuneRecipe,
    "cascade": CascadeRecipe,
    "vote": VoteRecipe,
}
