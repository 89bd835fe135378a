"""The ``run`` dataset: what a classifier said, as training data."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Offer ``run``."""
    register(
        "run",
        f"{__name__}.dataset:RunPredictions",
        summary="the predictions of a run or results file as training labels, not as gold",
    )
