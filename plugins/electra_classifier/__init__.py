"""The format of the study's published models (jbeno/electra-*-classifier-sentiment)."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_formats(register: Any) -> None:
    """Offer ``electra-classifier``."""
    register(
        "electra-classifier",
        f"{__name__}.format:ElectraClassifierFormat",
        summary="the published ELECTRA classifiers' folder, for the package electra-classifier",
    )
