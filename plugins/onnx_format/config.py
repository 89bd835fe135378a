"""``config.json`` of an ONNX folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sentikit import InputError
from sentikit.extension import read_json

CONFIG = "config.json"
GRAPH, QUANTISED_GRAPH = "model.onnx", "model.int8.onnx"
MAKER = "sentikit-onnx"


class OnnxConfig(BaseModel):
    """The keys that sentikit reads; folders of other programs have only ``id2label``.

    Attributes:
        id2label: class number to class name.
        model_type: of the encoder, as transformers calls it.
        max_position_embeddings: the encoder's limit of word pieces.
        max_length: the number of word pieces to which texts are truncated.
        ordered: whether user-defined classes are ordered.
        threshold: for two classes, the least probability for predicting the second.
        temperature: fitted on validation.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    id2label: dict[int, str] = Field(min_length=2)
    model_type: str | None = None
    max_position_embeddings: int | None = None
    max_length: int | None = Field(None, ge=1)
    ordered: bool = False
    threshold: float | None = Field(None, ge=0, le=1)
    temperature: float | None = Field(None, gt=0)

    @field_validator("id2label")
    @classmethod
    def _counts_from_zero(cls, labels: dict[int, str]) -> dict[int, str]:
        if sorted(labels) != list(range(len(labels))) or len(set(labels.values())) < len(labels):
            raise ValueError("needs a different label for each of 0, 1, 2, …")
        return labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in logit order."""
        return tuple(self.id2label[number] for number in range(len(self.id2label)))

    def to_json(self) -> dict[str, Any]:
        """Return the file's content, with transformers' names of keys."""
        label2id = {name: number for number, name in self.id2label.items()}
        return {"format": MAKER, "version": 1, **self.model_dump(), "label2id": label2id}


def is_of_format(folder: Path) -> bool:
    """Return whether `folder` has a graph, and a ``config.json`` that names the classes."""
    if not any((folder / name).is_file() for name in (GRAPH, QUANTISED_GRAPH)):
        return False
    if not (folder / CONFIG).is_file():
        return False
    config = read_json(folder / CONFIG)
    return isinstance(config, dict) and "id2label" in config


def read_config(folder: Path) -> OnnxConfig:
    """Read and check ``config.json``.

    Raises:
        InputError: keys are missing or wrong; the message lists all.
    """
    try:
        return OnnxConfig.model_validate(read_json(folder / CONFIG))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors(include_url=False)
        )
        raise InputError(f"{folder / CONFIG} does not describe a classifier: {problems}") from error
