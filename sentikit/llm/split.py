"""The split that an LLM labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sentikit.datasets.examples import Examples

if TYPE_CHECKING:
    from sentikit.llm.strategy_parts import StrategyParts


@dataclass(frozen=True)
class Split:
    """The examples to label, and what they are called in messages.

    Attributes:
        examples: in order.
        classes: the labels to choose from.
        name: as ``merged/test``.
    """

    examples: Examples
    classes: tuple[str, ...]
    name: str


def split_to_label(parts: StrategyParts, limit: int | None = None) -> Split:
    """Load the split that a recipe asks to label; gold labels may be missing.

    Raises:
        InputError: there is no such split, or it cannot be read.
    """
    examples = parts.dataset.split(parts.split, labelled=False)
    if limit is not None:
        examples = examples.select(np.arange(min(limit, len(examples))))
    return Split(examples, parts.dataset.scheme.classes, f"{parts.dataset.name}/{parts.split}")
