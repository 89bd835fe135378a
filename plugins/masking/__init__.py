"""Masking of personal data before a text goes to an LLM, with the extra ``masking``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_prompt_strategies(register: Any) -> None:
    """Register ``masked``, which wraps another strategy."""
    register(
        "masked",
        f"{__name__}.strategy:Masked",
        summary="another strategy, given texts without addresses, numbers and links",
    )
