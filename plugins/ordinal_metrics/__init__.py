"""Metrics for ordered classes, such as stars."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_metrics(register: Any) -> None:
    """Register ``quadratic_weighted_kappa``."""
    register(
        "quadratic_weighted_kappa",
        f"{__name__}.kappa:QuadraticWeightedKappa",
        summary="agreement beyond chance, where a larger error counts more",
    )
