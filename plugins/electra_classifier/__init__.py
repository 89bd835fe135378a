"""The study's published models (jbeno/electra-*-classifier-sentiment): format and short names."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_formats(register: Any) -> None:
    """Register ``electra-classifier``."""
    register(
        "electra-classifier",
        f"{__name__}.format:ElectraClassifierFormat",
        summary="the published ELECTRA classifiers' folder, for the package electra-classifier",
    )


@hookimpl
def register_classifiers(register: Any) -> None:
    """Register ``electra-base-sentiment`` and ``electra-large-sentiment``."""
    register(
        "electra-base-sentiment",
        f"{__name__}.models:ElectraBase",
        summary="the study's fine-tuned ELECTRA Base, from the hub",
    )
    register(
        "electra-large-sentiment",
        f"{__name__}.models:ElectraLarge",
        summary="the study's fine-tuned ELECTRA Large, from the hub",
    )
