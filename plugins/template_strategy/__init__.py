"""The prompt strategy ``template``: the user's own prompt, written in a recipe."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_prompt_strategies(register: Any) -> None:
    """Register ``template``."""
    register(
        "template",
        f"{__name__}.strategy:Template",
        summary="your own prompt, with the text, labels, examples and the row's columns filled in",
    )
