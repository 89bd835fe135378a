"""Settings of the request loop: keys of the ``llm`` section that work with every backend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sentikit.components import PartSettings
from sentikit.errors import InputError
from sentikit.llm.prices import Prices


class RequestOptions(PartSettings):
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


@dataclass(frozen=True)
class FailureLimit:
    """So many failing rows, or such a share of all rows, end the run.

    Attributes:
        count: rows, or None.
        share: between 0 and 1, or None.
    """

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailureLimit:
        """Read ``10`` as ten rows, ``0.05`` and ``5%`` as one row in twenty.

        Raises:
            InputError: neither of them.
        """
        stripped = text.strip()
        try:
            if stripped.isdigit() and int(stripped) > 0:
                return cls(count=int(stripped))
            percent = stripped.endswith("%")
            share = float(stripped.rstrip("%")) / (100 if percent else 1)
            if 0 < share <= 1 and not stripped.isdigit():
                return cls(share=share)
        except ValueError:
            pass
        raise InputError(
            f"--fail-on-error {text!r} must be a count of rows from 1, as 10, or a fraction, as "
            "0.05 or 5%."
        )

    def reached(self, failed: int, total: int) -> bool:
        """Return whether `failed` rows of `total` are too many."""
        if self.count is not None:
            return failed >= self.count
        return self.share is not None and failed >= max(1.0, self.share * total)

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.share:g}"
