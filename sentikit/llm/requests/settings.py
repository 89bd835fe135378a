"""Settings of the request loop: keys of the ``llm`` section that work with every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sentikit.components import PartSettings
from sentikit.llm.prices import Prices


class RequestOptions(PartSettings):
    """How calls are made, counted and kept."""

    in_flight: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="most calls at a time; auto starts at 20 and finds out"
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
