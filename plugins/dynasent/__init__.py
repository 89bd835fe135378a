"""DynaSent: sentences that were hard for sentiment models, in two rounds."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``dynasent``."""
    register(
        "dynasent",
        f"{__name__}.dataset:DynaSent",
        summary="DynaSent rounds 1 and 2: business reviews, adversarial sentences",
    )
