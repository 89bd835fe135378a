"""The Stanford Sentiment Treebank, sentence by sentence or with all its phrases."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``sst``."""
    register(
        "sst",
        f"{__name__}.dataset:StanfordSentimentTreebank",
        summary="Stanford Sentiment Treebank: movie review sentences, five labels",
    )
