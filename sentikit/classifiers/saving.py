"""Writes a model folder that any machine can load: safetensors weights, tokenizer, settings.

::

    config.json          classes, encoder, head, pooling, max_length, temperature
    model.safetensors    encoder.* and head.*
    encoder/             the backbone's configuration and the tokenizer
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from sentikit.classifiers.encoder import Encoder
from sentikit.classifiers.pooling import Pooling
from sentikit.components import PartSettings
from sentikit.files import folder_writer, write_json
from sentikit.weights import write_weights

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT = "sentikit-model"
VERSION = 1
WEIGHTS = "model.safetensors"


class ModelDescription(PartSettings):
    """What, beside the weights, makes a model.

    Attributes:
        label_scheme: name of the scheme the classes come from.
        classes: class names in logit order.
        threshold: see `LabelScheme`.
        encoder: the encoder section of the recipe.
        head: the head section's name and settings, without pooling.
        pooling: cls, mean or max.
        max_length: word pieces after which a text is cut.
        temperature: fitted on validation for calibrated probabilities; None if it was not.
    """

    label_scheme: str
    classes: tuple[str, ...] = Field(min_length=2)
    threshold: float | None = Field(ge=0, le=1)
    encoder: dict[str, Any]
    head: dict[str, Any]
    pooling: Pooling
    max_length: int = Field(ge=3)
    temperature: float | None = Field(gt=0)

    @field_validator("classes")
    @classmethod
    def _are_different(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("each class needs a name of its own")
        return classes

    @field_validator("encoder", "head")
    @classmethod
    def _has_a_name(cls, part: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(part.get("name"), str):
            raise ValueError("the name of the part is missing")
        return part

    def to_json(self) -> dict[str, Any]:
        """Return what ``config.json`` holds."""
        return {
            "format": FORMAT,
            "version": VERSION,
            **self.model_dump(mode="json"),
        }


def save_model(
    folder: Path,
    description: ModelDescription,
    weights: dict[str, Tensor],
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    backbone: PreTrainedModel,
) -> None:
    """Write a model folder; whatever stood there is replaced only when the new one is complete.

    Raises:
        SentikitError: the disk is full or refuses.
    """
    with folder_writer(folder) as temporary:
        write_weights(temporary / WEIGHTS, weights)
        encoder.save(temporary / "encoder", tokenizer, backbone)
        write_json(temporary / "config.json", description.to_json())
