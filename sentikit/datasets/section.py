"""The dataset section of a recipe: keys of the core, beside the part's own."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from sentikit.datasets.labels import SCHEMES
from sentikit.errors import did_you_mean
from sentikit.parts import PartSettings

#: The parts that a dataset's splits can play.
SPLITS = ("train", "validation", "test")


def _share(value: object) -> object:
    """Read '10%' as 0.1."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip().rstrip("%")) / 100
    return value


def _known_scheme(name: str) -> str:
    if name not in SCHEMES:
        raise ValueError(f"unknown label scheme {name!r}. {did_you_mean(name, SCHEMES)}")
    return name


def _holdout(value: object) -> object:
    """Read '10%' as 0.1; a percentage is never a count."""
    share = _share(value)
    if isinstance(value, str) and isinstance(share, float) and share >= 1:
        raise ValueError("a share to hold out must be below 100%")
    return share


def _whole(amount: float) -> float:
    if amount >= 1 and not float(amount).is_integer():
        raise ValueError("a count must be a whole number, and a share below 1 or in %")
    return amount


def _known_splits(splits: dict[str, str | None]) -> dict[str, str | None]:
    for name in splits:
        if name not in SPLITS:
            raise ValueError(f"unknown split {name!r}. {did_you_mean(name, SPLITS)}")
    return splits


class DatasetOptions(PartSettings):
    """Keys that work with every dataset."""

    labels: Annotated[str, AfterValidator(_known_scheme)] = Field(
        "neg_neu_pos", description="label scheme: neg_neu_pos, five, bin_neg, bin_neu or bin_pos"
    )
    label_map: dict[str, str] = Field(
        default_factory=dict, description="gold label as the data spell it, to a class"
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="two classes: predict the second from this probability on"
    )
    splits: Annotated[dict[str, str | None], AfterValidator(_known_splits)] = Field(
        default_factory=dict,
        description="which of the dataset's splits serves as train, validation or test; null: none",
    )
    sample: Annotated[float, BeforeValidator(_share)] = Field(
        1.0, gt=0, le=1, description="share of the training split to keep, as 0.1 or '10%'"
    )
    validation_holdout: Annotated[float, BeforeValidator(_holdout), AfterValidator(_whole)] = Field(
        0,
        ge=0,
        description="training examples to move to validation: a count, or a share below 1 or in %",
    )
    seed: int = Field(42, ge=0, description="decides which examples are sampled and held out")
