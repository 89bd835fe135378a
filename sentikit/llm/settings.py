"""The sections of a prompt recipe: the core's own keys, beside those of the components."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sentikit.components import PartSettings, Section
from sentikit.llm.requests.settings import RequestOptions
from sentikit.tracking import Trackers


class LLMOptions(RequestOptions):
    """Keys of the ``llm`` section that work with every backend."""

    temperature: float | None = Field(
        0.0, ge=0, description="of sampling; null leaves it to the server, as reasoning models need"
    )
    samples: int = Field(
        1,
        ge=1,
        le=64,
        description="answers to each question; shares of the labels become probabilities",
    )
    max_tokens: int = Field(64, ge=1, description="most tokens of an answer, reasoning included")
    probabilities: bool = Field(
        True, description="ask for log-probabilities over the labels, where the server has them"
    )

    @model_validator(mode="after")
    def _samples_differ(self) -> LLMOptions:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples: {self.samples} answers at temperature 0 are all alike; set "
                "llm.temperature above 0, as 0.7"
            )
        return self


class ExamplesOptions(PartSettings):
    """Where a strategy's examples come from: ``strategy.examples``."""

    encoder: str | None = Field(
        None, description="a model that embeds the texts; without it, strategy.adviser"
    )
    dataset: dict[str, Any] | None = Field(
        None, description="a dataset's name and settings; without it, the recipe's own"
    )
    split: str = Field("validation", description="the split examples are taken from")
    pool: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        "all", description="how many of the split to choose from: a number (the paper's 300) or all"
    )
    seed: int = Field(42, ge=0, description="decides which ones, where not all")


class StrategyOptions(PartSettings):
    """Keys of the ``strategy`` section that work with every strategy."""

    adviser: str | None = Field(
        None,
        description="the classifier whose prediction is shown: a model, a run, a recipe, a results "
        "file, or PATH#encoder for the prediction recorded inside an augmented run or file",
    )
    encoder: str | None = Field(None, description="the old name of adviser")
    label_column: str | None = Field(
        None, description="of a file: the column with the encoder's labels"
    )
    probabilities_column: str | None = Field(
        None, description="of a file: the column with the encoder's probabilities"
    )
    examples: ExamplesOptions = Field(
        default_factory=ExamplesOptions, description="where examples come from"
    )
    not_as_trained: bool = Field(
        False, description="the model was fine-tuned on other messages than these, and it is meant"
    )

    @model_validator(mode="before")
    @classmethod
    def _take_old_name(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("encoder") is None:
            return values
        if values.get("adviser") is not None:
            raise ValueError("encoder is the old name of adviser; give adviser alone")
        return {**values, "adviser": values["encoder"], "encoder": None}


class PromptRecipe(PartSettings):
    """Label a split with an LLM: ``kind: prompt``."""

    kind: Literal["prompt"] = "prompt"
    description: str = Field("", description="one line for the lists")
    dataset: Section = Field(description="a dataset's name and settings")
    split: str = Field("test", description="the split to label")
    llm: Section = Field(description="an LLM backend's name (as backend:) and settings")
    strategy: Section = Field(
        default_factory=lambda: {"name": "zero-shot"},
        description="a prompt strategy's name and settings, and the adviser it shows",
    )
    trackers: Trackers = Field(
        default_factory=list, description="trackers by name, or with name and settings"
    )
