"""Any dataset of the Hugging Face hub, or a local folder in the hub's layout."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_datasets(register: Any) -> None:
    """Register ``hub``."""
    register(
        "hub",
        f"{__name__}.dataset:HubDataset",
        summary="any Hugging Face dataset, by repository id or local folder",
    )
