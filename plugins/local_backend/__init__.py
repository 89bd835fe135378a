"""The LLM backend ``local``: an open causal language model in this process."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_llm_backends(register: Any) -> None:
    """Offer ``local``."""
    register(
        "local",
        f"{__name__}.backend:LocalBackend",
        summary="an open causal LM in this process; always one of the labels, with probabilities",
    )
