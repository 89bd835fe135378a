"""Writes a model folder that any machine can load: safetensors weights, tokenizer, settings.

::

    config.json          classes, encoder, head, pooling, max_length, temperature
    model.safetensors    encoder.* and head.*
    encoder/             the backbone's configuration and the tokenizer
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.classifier.encoder import Encoder
from sentikit.files import disk_errors, sync_folder, umask, write_json
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
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            write_weights(temporary / WEIGHTS, weights)
            encoder.save(temporary / "encoder", tokenizer, backbone)
            write_json(temporary / "config.json", description.to_json())
            replace_folder(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Put `new` where `folder` is; a kill in between leaves the old one or the new one.

    Its files become as readable as the umask allows: temporary folders and safetensors are private.
    """
    for path in [*new.rglob("*"), new]:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask())
        sync_folder(path)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
