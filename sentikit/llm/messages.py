"""Chat messages: what is said to an LLM, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One message of a chat.

    Attributes:
        role: who speaks.
        content: what is said, sent as it is.
    """

    role: Role
    content: str

    def to_json(self) -> dict[str, str]:
        """Return the message as chat interfaces and fine-tuning files write it."""
        return {"role": self.role, "content": self.content}
