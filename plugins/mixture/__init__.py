"""Mixtures: several datasets combined, each with a weight for training."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``mixture``."""
    register(
        "mixture",
        f"{__name__}.dataset:Mixture",
        summary="several datasets as one, each weighted for training",
    )
