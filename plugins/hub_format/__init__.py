"""Model folders with a card of the run's own figures, ready for the Hugging Face hub."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_formats(register: Any) -> None:
    """Offer ``hub``."""
    register(
        "hub",
        f"{__name__}.format:HubFormat",
        summary="the model folder with a model card; --push uploads it",
    )
