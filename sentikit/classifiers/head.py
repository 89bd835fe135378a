"""The interface of a head, and the pooling of token states before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sentikit.components import Part, PartSettings

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig

Pooling = Literal["cls", "mean", "max", "last", "head"]


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool token states as the study does.

    Args:
        states: (texts, tokens, hidden).
        mask: (texts, tokens), 1 for a token and 0 for padding.
        pooling: ``cls`` takes the first token, ``mean`` averages the tokens, ``max`` takes each
            feature's maximum over the states multiplied by the mask, so padding contributes 0,
            ``last`` takes the last token, which alone has seen the whole text in a decoder.

    Returns:
        (texts, hidden).
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        last = mask.long().sum(1).clamp(min=1) - 1
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "mean":
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    # The study padded every text, so a 0 always took part; without it, a text that happens to need
    # no padding in its batch would be pooled differently.
    return (states * weights).amax(1).clamp(min=0)


class HeadOptions(PartSettings):
    """Keys of the head section that work with every head."""

    pooling: Pooling = Field(
        "mean", description="token states to one vector: cls, mean, max or last"
    )


class Head(Part, ABC):
    """Builds the layers between the pooled text and the logits.

    Attributes:
        only_pooling: the only pooling that suits the head, which then needs no naming; None: any.
            ``head`` where the module pools the token states itself, by a method
            ``pool(states, mask)`` from (texts, tokens, hidden) and (texts, tokens) to (texts,
            hidden), as attention pooling does.
    """

    only_pooling: ClassVar[Pooling | None] = None

    @abstractmethod
    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return a module from (texts, hidden_size) to (texts, classes)."""

    def build_on(self, config: PretrainedConfig, classes: int) -> nn.Module:
        """Return the module for a backbone; by default that of `build` for its hidden size.

        Args:
            config: the backbone's configuration.
            classes: how many logits.

        Raises:
            sentikit.InputError: the head does not suit the backbone.
        """
        return self.build(int(config.hidden_size), classes)
