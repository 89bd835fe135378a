"""What a server can do with a model, as far as labelling needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .settings import OpenAISettings

_MOST_ALTERNATIVES = 20


@dataclass(frozen=True)
class Abilities:
    """What was found out, or is expected.

    Attributes:
        guarantee: name of the strongest way to guarantee a label.
        temperature: whether it may be set.
        top_logprobs: how many alternatives a token's log-probabilities may list; 0: none.
        limit_key: the body's key that limits the answer's length.
    """

    guarantee: str = "json_schema"
    temperature: bool = True
    top_logprobs: int = _MOST_ALTERNATIVES
    limit_key: str = "max_completion_tokens"

    @classmethod
    def expected(cls, settings: OpenAISettings) -> Abilities:
        """Return what is sent before anything is known."""
        wanted = settings.guarantee
        return cls(guarantee="json_schema" if wanted == "auto" else wanted)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Abilities:
        """Read what `to_json` wrote."""
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
