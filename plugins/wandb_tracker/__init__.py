"""The tracker ``wandb``: runs in Weights & Biases."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_trackers(register: Any) -> None:
    """Register ``wandb``."""
    register("wandb", f"{__name__}.tracker:WandbTracker", summary="Weights & Biases, with alerts")
