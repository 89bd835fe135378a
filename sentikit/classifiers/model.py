"""The module that is trained and saved: backbone, pooling, head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from sentikit.classifiers.pooling import pool

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SentimentModel(nn.Module):
    """Texts to logits.

    Attributes:
        encoder: the transformers backbone.
        pooling: cls, mean or max.
        head: pooled text to logits.
    """

    def __init__(self, encoder: PreTrainedModel, head: nn.Module, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.pooling = pooling

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the pooled texts, (texts, hidden)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return pool(states.last_hidden_state, attention_mask, self.pooling)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the logits, (texts, classes), in float32 whatever the precision inside."""
        logits: Tensor = self.head(self.embed(input_ids, attention_mask))
        return logits.float()
