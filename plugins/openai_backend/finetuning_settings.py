"""Settings of the fine-tuner ``openai``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sentikit.extension import PartSettings

from .settings import ServerSettings

#: A file may have this many bytes; a larger one goes through the Uploads API.
FILE_BYTES = 512 * 10**6
PART_BYTES = 64 * 2**20

Auto = Literal["auto"]


class WeightsAndBiases(PartSettings):
    """Where the provider itself shows the job; its account must know your W&B key."""

    project: str = Field(description="the project's name")
    name: str | None = Field(None, description="the run's name; null: the job's id")
    entity: str | None = Field(None, description="the team or user")
    tags: list[str] = Field(default_factory=list, description="more tags of the run")


class OpenAIFineTuningSettings(ServerSettings):
    """What a fine-tuning job is told."""

    section: ClassVar[str] = "finetune"

    epochs: Annotated[int, Field(ge=1, le=50)] | Auto = Field(
        "auto", description="times the examples are gone through; auto: the provider decides"
    )
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = Field(
        "auto", description="examples a step; auto: the provider decides"
    )
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto", description="of the provider's own rate; auto: the provider decides"
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="the same job again gives much the same")
    suffix: str | None = Field(
        None, min_length=1, max_length=64, description="stands in the fine-tuned model's name"
    )
    wandb: WeightsAndBiases | None = Field(
        None, description="let the provider report to Weights & Biases as well"
    )
    poll_seconds: float = Field(10.0, gt=0, description="seconds between two looks at the job")
    patience: float = Field(
        3600.0, ge=0, description="seconds without any answer after which following ends"
    )
    file_bytes: int = Field(
        FILE_BYTES, ge=1, le=FILE_BYTES, description="a larger file is uploaded in parts"
    )
    part_bytes: int = Field(PART_BYTES, ge=1, le=PART_BYTES, description="bytes of such a part")
