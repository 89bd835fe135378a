"""The heads ``linear`` and ``mlp``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_heads(register: Any) -> None:
    """Offer ``linear`` and ``mlp``."""
    register("linear", f"{__name__}.head:LinearHead", summary="dropout and one linear layer")
    register("mlp", f"{__name__}.head:MlpHead", summary="hidden layers; the study's head")
