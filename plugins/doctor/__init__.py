"""The command ``doctor``: checks the machine, the installation, API keys and LLM servers."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``doctor``."""
    register(
        "doctor",
        f"{__name__}.command:doctor",
        summary="Check this machine, the installation, API keys and an LLM server.",
    )
