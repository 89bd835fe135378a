"""The schema of prompt recipes: the keys that every backend and strategy shares."""

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
    """Settings of requests, their cost and their cache."""

    in_flight: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="maximum number of concurrent calls; auto starts at 20 and adapts"
    )
    requests_per_minute: float | None = Field(
        None, gt=0, description="the server's limit on calls, if known"
    )
    tokens_per_minute: float | None = Field(
        None, gt=0, description="the server's limit on tokens of prompts and answers together"
    )
    timeout: float = Field(120, gt=0, description="seconds until a call times out")
    tries: int = Field(6, ge=1, le=10, description="attempts at a call that the server fails")
    patience: float = Field(
        120, gt=0, description="seconds without any answer after which the run stops"
    )
    longest_wait: float = Field(
        600, gt=0, description="the run stops if a server asks to wait longer, in seconds"
    )
    repair: bool = Field(True, description="ask once more if the answer is not a label")
    cache: Path | None = Field(
        None, description="the file of answers; default: answers.sqlite beside the run"
    )
    prices: Prices | None = Field(
        None, description="USD per million tokens: prompt, completion, cached, cache_writes, tiers"
    )


class LLMOptions(RequestOptions):
    """Keys of the ``llm`` section that work with every backend."""

    temperature: float | None = Field(
        0.0, ge=0, description="sampling temperature; null for reasoning models, which refuse it"
    )
    samples: int = Field(
        1,
        ge=1,
        le=64,
        description="answers per text; the shares of the labels become probabilities",
    )
    max_tokens: int = Field(64, ge=1, description="limit on an answer's tokens, reasoning included")
    probabilities: bool = Field(
        True, description="request log-probabilities of the labels from servers that offer them"
    )

    @model_validator(mode="after")
    def _samples_differ(self) -> LLMOptions:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples: {self.samples} answers at temperature 0 are all the same; set "
                "llm.temperature above 0, for example 0.7"
            )
        return self


class ExamplesOptions(ComponentSettings):
    """The source of a strategy's examples: ``strategy.examples``."""

    encoder: str | None = Field(
        None, description="the model that embeds the texts; default: strategy.adviser"
    )
    dataset: dict[str, Any] | None = Field(
        None, description="a dataset's name and settings; default: the recipe's dataset"
    )
    split: str = Field("validation", description="the split examples are taken from")
    pool: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        "all", description="number of examples to choose from (300 in the study), or all"
    )
    seed: int = Field(42, ge=0, description="seed that draws the pool")


class StrategyOptions(ComponentSettings):
    """Keys of the ``strategy`` section that work with every strategy."""

    adviser: str | None = Field(
        None,
        description="the classifier whose prediction is shown: a model, a run, a recipe, a results "
        "file, or PATH#encoder for the prediction recorded inside an augmented run or file",
    )
    encoder: str | None = Field(None, description="the old name of adviser")
    label_column: str | None = Field(
        None, description="if adviser is a file: the column with its labels"
    )
    probabilities_column: str | None = Field(
        None, description="if adviser is a file: the column with its probabilities"
    )
    examples: ExamplesOptions = Field(
        default_factory=ExamplesOptions, description="the source of examples"
    )
    rationale: bool = Field(
        False, description="ask for a reason before the label and store it in its own column"
    )
    not_as_trained: bool = Field(
        False, description="accept a model that was fine-tuned on other messages"
    )

    @model_validator(mode="before")
    @classmethod
    def _take_old_name(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("encoder") is None:
            return values
        if values.get("adviser") is not None:
            raise ValueError("encoder is the old name of adviser; give only adviser")
        return {**values, "adviser": values["encoder"], "encoder": None}


class PromptRecipe(ComponentSettings):
    """Label a split with an LLM: ``kind: prompt``."""

    kind: Literal["prompt"] = "prompt"
    description: str = Field("", description="one line for `sentikit recipes list`")
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
    """The number, or share, of failed rows that ends a run."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailureLimit:
        """Parse ``10`` as ten rows, ``0.05`` and ``5%`` as one row in twenty."""
        stripped = text.strip()
        with contextlib.suppress(ValueError):
            if stripped.isdigit() and int(stripped) > 0:
                return cls(count=int(stripped))
            percent = stripped.endswith("%")
            share = float(stripped.rstrip("%")) / (100 if percent else 1)
            if 0 < share <= 1 and not stripped.isdigit():
                return cls(share=share)
        raise InputError(
            f"--fail-on-error {text!r} must be a number of rows, such as 10, or a fraction, such "
            "as 0.05 or 5%."
        )

    def reached(self, failed: int, total: int) -> bool:
        if self.count is not None:
            return failed >= self.count
        return self.share is not None and failed >= max(1.0, self.share * total)

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.share:g}"


@dataclass(frozen=True)
class Limits:
    """A job's limits on USD and failed rows, and its number of rows; None where unlimited."""

    max_cost: float | None = None
    failure_limit: FailureLimit | None = None
    total: int | None = None
