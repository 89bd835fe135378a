"""The heads ``linear``, ``mlp``, ``native`` and ``attention``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_heads(register: Any) -> None:
    """Register ``linear``, ``mlp``, ``native`` and ``attention``."""
    register("linear", f"{__name__}.head:LinearHead", summary="dropout and one linear layer")
    register("mlp", f"{__name__}.head:MlpHead", summary="hidden layers; the study's head")
    register(
        "native",
        f"{__name__}.head:NativeHead",
        summary="the head that transformers gives the encoder: a hidden layer over the first token",
    )
    register(
        "attention",
        f"{__name__}.head:AttentionHead",
        summary="attention pooling with learnt weights, and one linear layer",
    )
