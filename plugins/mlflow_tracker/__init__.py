"""The tracker ``mlflow``: runs and their models in MLflow."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_trackers(register: Any) -> None:
    """Register ``mlflow``."""
    register(
        "mlflow",
        f"{__name__}.tracker:MlflowTracker",
        summary="parameters, metrics and the model in MLflow",
    )
