"""The sections of recipes of the kinds `cascade` and `vote`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sentikit.components import PartSettings, Section
from sentikit.ensembles.aim import Goal, aim_problem


class Tuning(PartSettings):
    """How a cascade's threshold is chosen, on validation."""

    goal: Goal = Field(
        "f1", description="the best macro-F1, or the best one within a share of calls or a cost"
    )
    target: float | None = Field(
        None, gt=0, description="calls: share of texts sent to the LLM; cost: USD for 1,000 texts"
    )
    encoder: str | None = Field(None, description="the encoder's run on validation, if recorded")
    llm: str | None = Field(None, description="the LLM's run on validation, if recorded")

    @model_validator(mode="after")
    def _target_fits_goal(self) -> Tuning:
        problem = aim_problem(self.goal, self.target)
        if problem:
            raise ValueError(problem)
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
    vote: VoteSettings
