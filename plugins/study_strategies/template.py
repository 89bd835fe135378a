"""The study's prompt: an instruction, the fields described, the fields filled in (appendix D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_RULE = "\n\n---\n\n"
#: From this many fields on, the last one counted, a blank line stands between them.
_MANY = 4


@dataclass(frozen=True)
class Field:
    """One field of the prompt.

    Attributes:
        name: as it stands before the colon.
        description: what it holds.
        value: what it holds here, inserted as it is.
        separator: stands between the colon and the value.
    """

    name: str
    description: str
    value: str
    separator: str = " "


def render(fields: Sequence[Field], classes: Sequence[str]) -> str:
    """Return the whole prompt; it ends with ``Classification:`` and nothing after it."""
    choices = enumerate_classes(classes)
    answer = (
        f"Classification: One word representing the sentiment classification: {choices} "
        "(do not repeat the field name, do not use 'mixed')"
    )
    between = "\n\n" if len(fields) + 1 >= _MANY else "\n"
    described = [f"{field.name}: {field.description}" for field in fields]
    filled = [f"{field.name}:{field.separator}{field.value}" for field in fields]
    return _RULE.join(
        [
            f"Classify the sentiment of a review as either {choices}.",
            "Follow the following format.\n\n" + between.join([*described, answer]),
            between.join([*filled, "Classification:"]),
        ]
    )


def enumerate_classes(classes: Sequence[str]) -> str:
    """Write classes as ``'negative', 'neutral', or 'positive'``."""
    *most, last = (f"'{name}'" for name in classes)
    comma = "," if len(most) > 1 else ""
    return f"{', '.join(most)}{comma} or {last}"
