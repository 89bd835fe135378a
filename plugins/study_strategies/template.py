"""The study's prompt: an instruction, descriptions of the fields, and their values (appendix D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_RULE = "\n\n---\n\n"
#: From this many fields on, including the last one, blank lines separate them.
_MANY = 4


@dataclass(frozen=True)
class Field:
    """One field of the prompt.

    Attributes:
        name: the text before the colon.
        description: of its value.
        value: inserted unchanged.
        separator: between the colon and the value.
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
    """Format classes as ``'negative', 'neutral', or 'positive'``."""
    *most, last = (f"'{name}'" for name in classes)
    comma = "," if len(most) > 1 else ""
    return f"{', '.join(most)}{comma} or {last}"
