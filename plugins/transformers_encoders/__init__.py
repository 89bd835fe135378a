"""Encoders of the transformers library: ``transformers`` for any of them, MiniLM and ELECTRA."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_encoders(register: Any) -> None:
    """Register encoders of transformers, of runs, MiniLM and three sizes of ELECTRA."""
    register(
        "transformers",
        f"{__name__}.encoder:TransformersEncoder",
        summary="any encoder of the Hugging Face hub or of a local folder",
    )
    register(
        "run",
        f"{__name__}.encoder:RunEncoder",
        summary="the encoder of an earlier training run, to train it further",
    )
    register(
        "minilm",
        f"{__name__}.encoder:MiniLM",
        summary="MiniLM-L6 from the extra 'quickstart', without the hub",
    )
    for size, parameters in (("small", "14 M"), ("base", "109 M"), ("large", "334 M")):
        register(
            f"electra-{size}",
            f"{__name__}.encoder:Electra{size.capitalize()}",
            summary=f"google/electra-{size}-discriminator, {parameters} parameters",
        )
