"""A baseline classifier: TF-IDF features and logistic regression."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_classifiers(register: Any) -> None:
    """Register ``tfidf``."""
    register(
        "tfidf",
        f"{__name__}.classifier:TfidfClassifier",
        summary="TF-IDF of words and logistic regression, trained in seconds on a CPU",
    )
