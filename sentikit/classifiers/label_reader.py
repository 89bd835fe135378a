"""The label reader, which finds the class that an answer names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

#: Names of the label's field, on a separate line or as a key of JSON.
_FIELDS = ("classification", "label", "sentiment", "answer", "class", "category")
# A line with a field of the prompt, which models often repeat.
_FIELD_LINE = re.compile(
    rf"[\s*_`]*(?:{'|'.join(_FIELDS[:4])})[\s*_`]*:(?P<answer>.*)", re.IGNORECASE
)
_AROUND = (
    " \t\r\n\u00a0\"'`*_“”«»„.,;:!\u2018\u2019\u3002\uff0e\uff0c\uff01\uff1b\uff1a\u060c\u061b"
)
_PAIRS = {"(": ")", "[": "]", "{": "}", "\uff08": "\uff09", "\u3010": "\u3011"}
_BULLET = re.compile("[-\u2013\u2014\u2022+*]\\s+")
_THINKING = re.compile(r"\s*<(think|thinking|reasoning)>.*?</\1>", re.IGNORECASE | re.DOTALL)
_LANGUAGE = re.compile(r"[A-Za-z0-9]*[ \t]*\n")
_FENCE = "```"
#: End tokens of open models, which some servers include in the answer.
_END_TOKENS = (
    "</s>",
    "<eos>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn_token|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
_INVISIBLE = str.maketrans("", "", "\u200b\u200c\u200d\u2060\ufeff\u00ad")


def parse_label(answer: str, classes: Sequence[str]) -> str | None:
    """Return the class that `answer` names, or None if it does not clearly name one.

    The answer must be a class, in any case. It may be in quotes, brackets or one code fence,
    emphasised, a list's only item, followed by punctuation or a model's end token, preceded by one
    closed block of thinking, the only label of a JSON object, or follow ``Classification:``,
    ``Label:``, ``Sentiment:`` or ``Answer:`` on a separate line; all such lines must agree.
    Everything else is invalid: other words, another language, two labels, nothing.
    """
    label = _exact(answer, classes)
    if label is not None:
        return label
    text = _from_json(_unfenced(answer))
    label = _exact(plain_label(text), classes)
    if label is not None:
        return label
    lines = [_FIELD_LINE.fullmatch(line) for line in text.splitlines()]
    named = {_exact(plain_label(match["answer"]), classes) for match in lines if match}
    return named.pop() if len(named) == 1 else None


def parse_rationale(answer: str) -> str | None:
    """Return the ``rationale`` of a JSON answer, or the text before the label's line."""
    text = _unfenced(answer)
    fields = _json_object(text)
    if fields is not None:
        reason = fields.get("rationale")
        return reason.strip() or None if isinstance(reason, str) else None
    lines = text.splitlines()
    named = [number for number, line in enumerate(lines) if _FIELD_LINE.fullmatch(line)]
    reason = "\n".join(lines[: named[-1]]).strip() if named else ""
    return reason.removeprefix("Rationale:").strip() or None


def plain_label(text: str) -> str:
    """Return a text without surrounding quotes, brackets, punctuation or a bullet."""
    plain = _without_end_tokens(text.translate(_INVISIBLE)).strip(_AROUND)
    bullet = _BULLET.match(plain)
    if bullet:
        plain = plain[bullet.end() :].strip(_AROUND)
    if len(plain) > 1 and _PAIRS.get(plain[0]) == plain[-1]:
        plain = plain[1:-1].strip(_AROUND)
    return plain


def _exact(text: str, classes: Sequence[str]) -> str | None:
    folded = " ".join(text.casefold().split())
    same = (name for name in classes if " ".join(name.casefold().split()) == folded)
    alike = (name for name in classes if folded and plain_label(name).casefold() == folded)
    return next(same, None) or next(alike, None)


def _unfenced(answer: str) -> str:
    text = answer.translate(_INVISIBLE)
    thinking = _THINKING.match(text)
    if thinking:
        text = text[thinking.end() :]
    text = _without_end_tokens(text)
    if text.startswith(_FENCE) and text.endswith(_FENCE) and text.count(_FENCE) == 2:
        text = text[len(_FENCE) : -len(_FENCE)]
        language = _LANGUAGE.match(text)
        text = text[language.end() :] if language else text
    return text.strip()


def _without_end_tokens(text: str) -> str:
    text = text.strip()
    while token := next((t for t in _END_TOKENS if text[-len(t) :].casefold() == t), None):
        text = text[: -len(token)].rstrip()
    return text


def _from_json(text: str) -> str:
    """Return the label of a JSON object that names one, else the text itself."""
    fields = _json_object(text) or {}
    named = [label for key, label in fields.items() if key.casefold() in _FIELDS]
    return named[0] if len(named) == 1 and isinstance(named[0], str) else text


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{") or not text.endswith("}"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
