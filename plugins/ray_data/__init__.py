"""Labelling on Ray Data: ``sentikit predict X PATH --on ray``."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register the command that ``predict --on ray`` runs."""
    register(
        "predict-on-ray",
        f"{__name__}.command:predict_on_ray",
        summary="Label Parquet files on a Ray cluster; also predict --on ray.",
    )
