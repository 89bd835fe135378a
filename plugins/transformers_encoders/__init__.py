"""Encoders of the transformers library: ``transformers`` (any of them) and ``minilm``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_encoders(register: Any) -> None:
    """Offer ``transformers`` and ``minilm``."""
    register(
        "transformers",
        f"{__name__}.encoder:TransformersEncoder",
        summary="any encoder of the Hugging Face hub or of a local folder",
    )
    register(
        "run",
        f"{__name__}.encoder:RunEncoder",
        summary="the encoder of a run that was trained here, to train it further",
    )
    register(
        "minilm",
        f"{__name__}.encoder:MiniLM",
        summary="MiniLM-L6 from the extra 'quickstart'; needs no hub",
    )
