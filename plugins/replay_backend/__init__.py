"""The LLM backend ``replay``: answers recorded in an earlier run or in a results file."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_llm_backends(register: Any) -> None:
    """Register ``replay``."""
    register(
        "replay",
        f"{__name__}.backend:Replay",
        summary="answers recorded in a run or a results file; needs no key and costs nothing",
    )
