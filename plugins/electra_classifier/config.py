"""The keys that the format adds to an ElectraConfig in ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sentikit import InputError
from sentikit.extension import did_you_mean, read_json

ARCHITECTURE = "ElectraClassifier"
CONFIG = "config.json"
SWISHGLU = "SwishGLU"
#: Element-wise activations of torch.nn without arguments. A file's name is only looked up here.
ACTIVATIONS = frozenset(
    {
        *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity"),
        *("LeakyReLU", "LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU"),
        *("Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", SWISHGLU),
    }
)


class OwnSettings(BaseModel):
    """Values under sentikit's key, which the published package ignores.

    Attributes:
        max_length: word pieces to which texts are truncated; None: the encoder's limit.
        temperature: fitted on validation.
        ordered: whether user-defined classes are ordered.
        threshold: for two classes, the least probability for predicting the second.
    """

    max_length: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, gt=0)
    ordered: bool = False
    threshold: float | None = Field(None, ge=0, le=1)


class HeadConfig(BaseModel):
    """The format's own keys.

    Attributes:
        hidden_activation: SwishGLU, or the name of a class of torch.nn.
        hidden_dim: width of the hidden layers.
        num_layers: number of hidden layers.
        dropout_rate: after each activation; 0 means no dropout modules.
        pooling: cls, mean or max.
        id2label: class number (as text) to class name.
        sentikit: values that the format has no key for.
    """

    model_config = ConfigDict(frozen=True)

    hidden_activation: str
    hidden_dim: int = Field(ge=1)
    num_layers: int = Field(ge=1, le=64)
    dropout_rate: float = Field(ge=0, lt=1)
    pooling: Literal["cls", "mean", "max"]
    id2label: dict[int, str] = Field(min_length=2)
    sentikit: OwnSettings = OwnSettings()

    @field_validator("hidden_activation")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in ACTIVATIONS:
            raise ValueError(f"unknown activation {name!r}. {did_you_mean(name, ACTIVATIONS)}")
        return name

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


def is_of_format(folder: Path) -> bool:
    """Return whether `folder` has a ``config.json`` of the format."""
    if not (folder / CONFIG).is_file():
        return False
    config = read_json(folder / CONFIG)
    return isinstance(config, dict) and ARCHITECTURE in (config.get("architectures") or [])


def read_config(folder: Path) -> tuple[HeadConfig, dict[str, Any]]:
    """Return the format's keys, checked, and the whole ``config.json``.

    Raises:
        InputError: keys are missing or wrong; the message lists all.
    """
    values: dict[str, Any] = read_json(folder / CONFIG)
    try:
        return HeadConfig.model_validate(values), values
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors(include_url=False)
        )
        raise InputError(f"{folder / CONFIG} is not a complete {ARCHITECTURE}: {problems}") from (
            error
        )
