"""A run's predictions as training data (the dataset ``run``) and as a table."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``run``."""
    register(
        "run",
        f"{__name__}.dataset:RunPredictions",
        summary="the predictions of a run or results file as training labels, not as gold",
    )


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``runs list``, ``runs show`` and ``runs table``."""
    register("runs list", f"{__name__}.commands:list_runs", summary="List runs, newest last.")
    register(
        "runs show",
        f"{__name__}.commands:show",
        summary="Show a run's settings, cost and scores.",
    )
    register(
        "runs table",
        f"{__name__}.table:table",
        summary="Write a run's predictions as a table, beside the columns of the data they are "
        "about.",
    )
