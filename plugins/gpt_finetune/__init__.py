"""The command ``gpt-finetune``: fine-tunes an LLM, at a provider or in this process."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``gpt-finetune``."""
    register(
        "gpt-finetune",
        f"{__name__}.command:gpt_finetune",
        summary="Fine-tune an LLM at a provider or on this machine.",
    )
