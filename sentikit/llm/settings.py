"""The sections of a prompt recipe: the core's own keys, beside those of the components."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sentikit.components import ComponentSettings, Section
from sentikit.errors import InputError
from sentikit.llm.prices import Prices
from sentikit.tracking import Trackers


class RequestOptions(ComponentSettings):
    """How calls are made, counted and kept."""

    in_flight: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="most calls at a time; auto starts at 20 and finds out"
    )
    requests_per_minute: float | None = Field(
        None, gt=0, description="calls the server allows, where its limit is known"
    )
    tokens_per_minute: float | None = Field(
        None, gt=0, description="tokens the server allows, prompts and answers together"
    )
    timeout: float = Field(120, gt=0, description="seconds a call may take")
    tries: int = Field(6, ge=1, le=10, description="tries of a call the server fails at")
    patience: float = Field(
        120, gt=0, description="seconds without any answer after which the run stops"
    )
    longest_wait: float = Field(
        600, gt=0, description="longest wait a server may ask for; the run stops above it"
    )
    repair: bool = Field(True, description="ask once more where the answer is no label")
    cache: Path | None = Field(
        None,
        description="the file that keeps every answer; default: answers.sqlite beside the run",
    )
    prices: Prices | None = Field(
        None, description="USD per million tokens: prompt, completion, cached, cache_writes, tiers"
    )


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


class ExamplesOptions(ComponentSettings):
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


class StrategyOptions(ComponentSettings):
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
    rationale: bool = Field(
        False, description="ask for a reason before the label, kept in a column of its own"
    )
    not_as_trained: bool = Field(
        False, description="the model was fine-tuned on other messages; this is intended"
    )

    @model_validator(mode="before")
    @classmethod
    def _take_old_name(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("encoder") is None:
            return values
        if values.get("adviser") is not None:
            raise ValueError("encoder is the old name of adviser; give adviser alone")
        return {**values, "adviser": values["encoder"], "encoder": None}


class PromptRecipe(ComponentSettings):
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


@dataclass(frozen=True)
class FailureLimit:
    """So many failing rows, or such a share of all rows, end the run."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailureLimit:
        """Read ``10`` as ten rows, ``0.05`` and ``5%`` as one row in twenty."""
        stripped = text.strip()
        with contextlib.suppress(ValueError):
            if stripped.isdigit() and int(stripped) > 0:
                return cls(count=int(stripped))
            percent = stripped.endswith("%")
            share = float(stripped.rstrip("%")) / (100 if percent else 1)
            if 0 < share <= 1 and not stripped.isdigit():
                return cls(share=share)
        raise InputError(
            f"--fail-on-error {text!r} must be a count of rows from 1, as 10, or a fraction, as "
            "0.05 or 5%."
        )

    def reached(self, failed: int, total: int) -> bool:
        if self.count is not None:
            return failed >= self.count
        return self.share is not None and failed >= max(1.0, self.share * total)

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.share:g}"


@dataclass(frozen=True)
class Limits:
    """What a user allows a job: USD, failing rows, and the rows there are, each where known."""

    max_cost: float | None = None
    failure_limit: FailureLimit | None = None
    total: int | None = None
