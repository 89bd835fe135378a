"""Model folders for the Hugging Face hub, with a model card: sentikit's own and transformers'."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_formats(register: Any) -> None:
    """Register ``hub`` and ``transformers``."""
    register(
        "hub",
        f"{__name__}.format:HubFormat",
        summary="the model folder with a model card; --push uploads it",
    )
    register(
        "transformers",
        f"{__name__}.transformers_format:TransformersFormat",
        summary="a text classifier that transformers loads without sentikit; --push uploads it",
    )
