"""The engine ``torch``: plain PyTorch in one process, or DistributedDataParallel."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_engines(register: Any) -> None:
    """Register ``torch``."""
    register("torch", f"{__name__}.engine:TorchEngine", summary="plain PyTorch, one process or DDP")
