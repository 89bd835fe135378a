"""Reads a label out of free text, strictly: what is not plainly one label is none."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A line that names the last field of the usual prompt, as models like to repeat it.
_FIELD_LINE = re.compile(r"[\s*_`]*classification[\s*_`]*:(?P<answer>.*)", re.IGNORECASE)
_AROUND = " \t\r\n\"'`*_“”«»„.,;:!\u2018\u2019"


def parse_label(answer: str, classes: Sequence[str]) -> str | None:
    """Return the class that `answer` names, or None if it is not plainly one of `classes`.

    Accepted are a class by itself, whatever its case, in quotes or emphasised, with punctuation
    after it, and the same behind ``Classification:`` on a line of its own. All such lines must
    agree. Everything else is invalid: other words, another language, two labels, nothing.
    """
    whole = _exact(answer, classes)
    if whole is not None:
        return whole
    lines = [_FIELD_LINE.fullmatch(line) for line in answer.splitlines()]
    named = {_exact(match["answer"], classes) for match in lines if match}
    return named.pop() if len(named) == 1 else None


def _exact(text: str, classes: Sequence[str]) -> str | None:
    folded = " ".join(text.strip(_AROUND).casefold().split())
    return next((name for name in classes if name.casefold() == folded), None)
