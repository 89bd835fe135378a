"""The interface of a head: what turns a pooled text into logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sentikit.components import Part, PartSettings

if TYPE_CHECKING:
    from torch import nn

Pooling = Literal["cls", "mean", "max"]


class HeadOptions(PartSettings):
    """Keys of the head section that work with every head."""

    pooling: Pooling = Field("mean", description="token states to one vector: cls, mean or max")


class Head(Part, ABC):
    """Builds the layers between the pooled text and the logits."""

    @abstractmethod
    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return a module from (texts, hidden_size) to (texts, classes)."""
