"""Writes a model folder that any machine can load: safetensors weights, tokenizer, settings.

::

    config.json          classes, encoder, head, pooling, max_length, temperature
    model.safetensors    encoder.* and head.*
    encoder/             the backbone's configuration and the tokenizer
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.classifier.encoder import Encoder
from sentikit.files import folder_writer, write_json
from sentikit.weights import write_weights

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT = "sentikit-model"
VERSION = 1
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class ModelDescription:
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
    classes: tuple[str, ...]
    threshold: float | None
    encoder: dict[str, Any]
    head: dict[str, Any]
    pooling: str
    max_length: int
    temperature: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what ``config.json`` holds."""
        return {
            "format": FORMAT,
            "version": VERSION,
            **self.__dict__,
            "classes": list(self.classes),
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
