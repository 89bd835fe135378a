"""Keeps keys out of what is shown: other people's error messages sometimes quote them."""

from __future__ import annotations

import os
from collections.abc import Mapping

_ENDINGS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
#: Shorter values are no secrets, and replacing them would garble ordinary words.
_SHORTEST = 8


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return `text` with the values of variables such as WANDB_API_KEY replaced by their names."""
    found = {
        value: name
        for name, value in environment.items()
        if name.upper().endswith(_ENDINGS) and len(value) >= _SHORTEST
    }
    # The longest first: one key may begin like another.
    for value in sorted(found, key=len, reverse=True):
        text = text.replace(value, f"[{found[value]}]")
    return text
