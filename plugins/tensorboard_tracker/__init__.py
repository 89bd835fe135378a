"""The tracker ``tensorboard``: curves in TensorBoard."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_trackers(register: Any) -> None:
    """Register ``tensorboard``."""
    register(
        "tensorboard",
        f"{__name__}.tracker:TensorboardTracker",
        summary="files for TensorBoard in the run's folder",
    )
