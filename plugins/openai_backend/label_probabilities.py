"""Reads label probabilities out of a chat answer's token log-probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_VALUE = re.compile(r'"label"\s*:\s*"')


def label_log_probabilities(
    tokens: Sequence[Mapping[str, Any]] | None, labels: Sequence[str]
) -> dict[str, float] | None:
    """Return label to log-probability, or None where the tokens do not tell.

    The answer's tokens are followed from where the label begins. At each one, every alternative
    that belongs to a single label adds the probability of the path so far times its own; the
    answer's token is followed further for as long as several labels may still come of it.

    Args:
        tokens: ``choices[0].logprobs.content``: each with ``token``, ``logprob`` and
            ``top_logprobs``.
        labels: the labels; a label that no alternative leads to is left out.
    """
    if not tokens:
        return None
    start = _label_start("".join(str(token.get("token", "")) for token in tokens))
    found: dict[str, float] = {}
    said, path, offset = "", 0.0, 0
    for token in tokens:
        text = str(token.get("token", ""))
        before, offset = offset, offset + len(text)
        if offset <= start:
            continue
        skipped = text[: max(0, start - before)]
        for alternative, log in _alternatives(token).items():
            if not alternative.startswith(skipped):
                continue
            fits = _fitting(said + alternative[len(skipped) :], labels)
            if len(fits) == 1:
                _add(found, fits[0], path + log)
        said += text[len(skipped) :]
        path += float(token.get("logprob", 0.0))
        if said.strip() and len(_fitting(said, labels)) < 2:
            break
    return found or None


def _label_start(text: str) -> int:
    match = _VALUE.search(text)
    return match.end() if match else len(text) - len(text.lstrip())


def _alternatives(token: Mapping[str, Any]) -> dict[str, float]:
    """Return the tokens that could have stood here, the answer's own included."""
    listed = [*(token.get("top_logprobs") or []), token]
    return {
        str(entry.get("token", "")): float(entry["logprob"])
        for entry in listed
        if isinstance(entry.get("logprob"), int | float) and not math.isinf(entry["logprob"])
    }


def _fitting(said: str, labels: Sequence[str]) -> list[str]:
    """Return the labels that begin with `said`, or that `said` goes on from."""
    start = said.lstrip(" \n\t\"'*").casefold()
    if not start:
        return []
    whole = start.rstrip(" \n\t\"'*.!}")
    return [
        label
        for label in labels
        if label.casefold().startswith(start) or (whole and label.casefold() == whole)
    ]


def _add(found: dict[str, float], label: str, log: float) -> None:
    before = found.get(label)
    if before is None:
        found[label] = log
    else:
        top = max(before, log)
        found[label] = top + math.log(math.exp(before - top) + math.exp(log - top))
