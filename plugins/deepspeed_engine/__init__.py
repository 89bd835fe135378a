"""The engine ``deepspeed``: ZeRO stages 0 to 3, and offloading to the CPU's memory."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_engines(register: Any) -> None:
    """Register ``deepspeed``."""
    register(
        "deepspeed",
        f"{__name__}.engine:DeepSpeedEngine",
        summary="DeepSpeed ZeRO 0-3 with offloading; needs sentikit[deepspeed]",
    )
