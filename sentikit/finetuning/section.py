"""The core's own keys of a recipe's section ``finetune``, beside those of the fine-tuner."""

from __future__ import annotations

from pydantic import Field

from sentikit.components import PartSettings


class FinetuneOptions(PartSettings):
    """Keys of the ``finetune`` section that work with every provider."""

    train: str = Field("train", description="the split to learn from")
    validation: str | None = Field(
        "validation", description="the split to watch the loss on; null: none"
    )
    training_price: float | None = Field(
        None, ge=0, description="USD per million tokens and epoch, instead of the table's"
    )
    context: int | None = Field(
        None, ge=1, description="tokens an example may have, instead of the table's"
    )
