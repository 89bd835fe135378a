"""Tweets labelled negative, neutral or positive."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``tweet``."""
    register(
        "tweet",
        f"{__name__}.dataset:TweetSentiment",
        summary="Tweet Sentiment Extraction: tweets, three labels; no validation split",
    )
