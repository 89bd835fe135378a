"""The study's merged dataset: DynaSent rounds 1 and 2 with the Stanford Sentiment Treebank."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``merged``."""
    register(
        "merged",
        f"{__name__}.dataset:Merged",
        summary="DynaSent rounds 1 and 2 and SST-3, merged as in the ELECTRA and GPT-4o study",
    )
