"""The LLM backend ``local``: an open language model, queried and fine-tuned in this process."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_llm_backends(register: Any) -> None:
    """Register ``local``."""
    register(
        "local",
        f"{__name__}.backend:LocalBackend",
        summary="an open causal LM in this process; always one of the labels, with probabilities",
    )


@hookimpl
def register_formats(register: Any) -> None:
    """Register ``causal-lm``."""
    register(
        "causal-lm",
        f"{__name__}.format:CausalLMFormat",
        summary="a language model fine-tuned locally, with its adapter merged into the weights",
    )
