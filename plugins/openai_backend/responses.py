"""Responses of servers: JSON and headers, parsed into types of our own.

Servers deviate from OpenAI's protocol. Values that cannot be read are None: no usage, no
log-probabilities, no wait.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sentikit.extension import RateLimit, Usage

#: No call has more tokens; a larger count is an error.
_MOST_TOKENS = 10**9
#: A wait or a window longer than this is a server's mistake.
_LONGEST_WAIT = 366 * 86400.0
_SSE = re.compile(rb"^data:[ \t]*(.*?)\r?$", re.MULTILINE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Kinds of content parts that hold the answer's own words.
_TEXT_PARTS = frozenset({"text", "output_text"})


class Token(NamedTuple):
    """A token of an answer with its alternatives, itself included."""

    text: str
    log: float | None
    alternatives: Mapping[str, float]


@dataclass(frozen=True)
class Completion:
    """A server's answer; what it does not include is empty or None."""

    text: str
    #: Arguments of the first function call.
    arguments: str | None = None
    #: The model's explanation of a refusal.
    refusal: str = ""
    finish_reason: str = ""
    tokens: tuple[Token, ...] = ()
    usage: Usage | None = None
    #: Tokens of the answer as the server counts them, perhaps without reasoning.
    listed: int = 0
    billed_usd: float | None = None
    model: str = ""
    service_tier: str | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the limit on tokens cut it off."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class ServerError:
    """An error in a response's body: message, codes and HTTP status."""

    message: str = ""
    codes: frozenset[str] = field(default_factory=frozenset)
    status: int | None = None


def parse_body(content: bytes) -> Any:
    """Return a body's JSON value, or None.

    Server-sent events are merged into one value; a trailing ``data: [DONE]`` is ignored.
    """
    value = _parsed(content)
    if value is not None:
        return value
    if content.lstrip()[:5] == b"data:":
        return _streamed(content)
    head, found, _ = content.partition(b"\ndata:")
    return _parsed(head) if found else None


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _streamed(content: bytes) -> Any:
    """Merge the chunks of a stream."""
    chunks = [as_mapping(_parsed(line)) for line in _SSE.findall(content)]
    whole: dict[str, Any] = {}
    text, finish = "", None
    for chunk in chunks:
        whole |= {key: value for key, value in chunk.items() if value is not None}
        choice = as_mapping(_first(chunk.get("choices")))
        delta = choice.get("delta") or choice.get("message")
        text += _content(as_mapping(delta).get("content"))
        finish = choice.get("finish_reason") or finish
    if not any(chunks):
        return None
    if "choices" not in whole:
        return whole
    message = {"role": "assistant", "content": text}
    return {**whole, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def names_error(value: Any) -> bool:
    """Return whether a body contains an error."""
    body = as_mapping(value)
    return bool(body.get("error") or as_mapping(_first(body.get("choices"))).get("error"))


def read_error(value: Any) -> ServerError:
    """Return the error in a body; servers nest it in several ways, or not at all."""
    body = as_mapping(value)
    error = body.get("error") or as_mapping(_first(body.get("choices"))).get("error")
    found = as_mapping(error) or body
    words = found.get("message") or found.get("detail") or found.get("error")
    if isinstance(error, str):
        words = error
    codes = [found.get("code"), found.get("type"), found.get("status")]
    numbers = [as_count(code) for code in codes]
    status = next((n for n in numbers if n is not None and 400 <= n < 600), None)
    return ServerError(
        message="" if words is None else str(words),
        codes=frozenset(str(code) for code in codes if isinstance(code, str | int) and code),
        status=status,
    )


def read_completion(value: Any) -> Completion | None:
    """Read a chat completion, or a response of the Responses API; None if it is neither."""
    body = as_mapping(value)
    if isinstance(body.get("output"), list):
        return _read_response(body)
    choice = as_mapping(_first(body.get("choices")))
    if "message" not in choice and "text" not in choice:
        return None
    message = choice.get("message", choice.get("text"))
    fields = as_mapping(message)
    content = message if isinstance(message, str) else fields.get("content")
    refusal = fields.get("refusal")
    return Completion(
        text=_content(content),
        arguments=_arguments(fields),
        refusal=refusal if isinstance(refusal, str) else "",
        finish_reason=as_text(choice.get("finish_reason")),
        tokens=tuple(read_tokens(as_mapping(choice.get("logprobs")).get("content"))),
        **_bill(body),
    )


def _read_response(body: Mapping[str, Any]) -> Completion | None:
    """Read a response (https://platform.openai.com/docs/api-reference/responses/object)."""
    text, refusal, arguments, tokens = "", "", None, list[Token]()
    for item in map(as_mapping, body["output"]):
        if item.get("type") == "function_call" and arguments is None:
            arguments = as_text(item.get("arguments"))
        for part in map(as_mapping, as_list(item.get("content"))):
            if part.get("type") == "output_text":
                text += as_text(part.get("text"))
                tokens += read_tokens(part.get("logprobs"))
            refusal = refusal or as_text(part.get("refusal"))
    why = as_text(as_mapping(body.get("incomplete_details")).get("reason"))
    finish = {"max_output_tokens": "length"}.get(why, why) or "stop"
    return Completion(text, arguments, refusal, finish, tuple(tokens), **_bill(body))


def _bill(body: Mapping[str, Any]) -> dict[str, Any]:
    tier, usage = body.get("service_tier"), as_mapping(body.get("usage"))
    return {
        "usage": read_usage(usage),
        "listed": _counted(usage, "completion_tokens", "output_tokens") or 0,
        "billed_usd": _dollars(usage.get("cost")),
        "model": as_text(body.get("model")),
        "service_tier": tier if isinstance(tier, str) and tier else None,
    }


def read_usage(value: Any) -> Usage | None:
    """Read the usage of an answer; None if it is missing or inconsistent.

    More cached tokens than prompt tokens were counted separately. Tokens that only the total
    includes are reasoning, which is billed as completion.
    """
    counts = as_mapping(value)
    prompt = _counted(counts, "prompt_tokens", "input_tokens")
    completion = _counted(counts, "completion_tokens", "output_tokens")
    total = as_count(counts.get("total_tokens"))
    if prompt is None and completion is not None and total is not None:
        prompt = total - completion
    if completion is None and prompt is not None and total is not None:
        completion = total - prompt
    if completion is None and prompt is None and total is not None:
        # The split is unknown: all count as completion, which costs more.
        prompt, completion = 0, total
    if prompt is None or completion is None or prompt < 0 or completion < 0:
        return None
    details = as_mapping(counts.get("prompt_tokens_details") or counts.get("input_tokens_details"))
    cached = _counted(details, "cached_tokens") or _counted(counts, "cache_read_input_tokens") or 0
    written = (
        _counted(details, "cache_write_tokens", "cache_creation_tokens")
        or _counted(counts, "cache_creation_input_tokens")
        or 0
    )
    if cached + written > prompt:
        prompt += cached + written
    if total is not None:
        completion += max(0, total - prompt - completion)
    return Usage(prompt, cached, completion, written)


def _counted(counts: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = counts.get(name)
        found = None if value is None else as_count(value)
        if found is not None:
            return found
    return None


def as_count(value: Any) -> int | None:
    """Return a count of tokens or requests, or None if the value is not one."""
    if type(value) is int and 0 <= value <= _MOST_TOKENS:
        return value
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= _MOST_TOKENS else None


def _dollars(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and 0 <= value < _MOST_TOKENS else None


def _first(value: Any) -> Any:
    return next(iter(as_list(value)), None)


def as_mapping(value: Any) -> Mapping[str, Any]:
    # JSON objects are dicts; a check against Mapping is much slower.
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _content(value: Any) -> str:
    """Return a message's text, without parts of other kinds such as reasoning."""
    if not isinstance(value, list):
        return as_text(value)
    parts = (part if isinstance(part, Mapping) else {"text": part} for part in value)
    return "".join(
        as_text(part.get("text")) for part in parts if part.get("type", "text") in _TEXT_PARTS
    )


def _arguments(message: Mapping[str, Any]) -> str | None:
    call = as_mapping(_first(message.get("tool_calls")))
    if not call:
        return None
    arguments = as_mapping(call.get("function")).get("arguments")
    return json.dumps(arguments) if isinstance(arguments, Mapping) else as_text(arguments)


def read_tokens(value: Any) -> Iterator[Token]:
    """Read ``logprobs.content``; a log-probability that is not a number is None."""
    for entry in map(as_mapping, as_list(value)):
        listed = [*map(as_mapping, as_list(entry.get("top_logprobs"))), entry]
        logs = ((as_text(one.get("token")), _log(one.get("logprob"))) for one in listed)
        alternatives = {text: log for text, log in logs if log is not None}
        yield Token(as_text(entry.get("token")), _log(entry.get("logprob")), alternatives)


def _log(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    # Integers in JSON may exceed the range of floats.
    return float(value) if known and -sys.float_info.max <= value < 0.01 else None


#: The text before a label: a JSON key, or a name at the beginning of a line.
_VALUE = re.compile(r'"label"\s*:\s*"')
_LINE = re.compile(
    r"^[\s*_`]*(?:classification|label|sentiment|answer)[\s*_`]*:[\s*_`]*", re.I | re.M
)


def label_log_probabilities(
    tokens: Sequence[Token], labels: Sequence[str]
) -> dict[str, float] | None:
    """Return each label's log-probability, or None if the tokens do not determine any.

    From the beginning of the label on, each alternative that fits a single label adds the
    probability of the path so far times its own. The path follows the answer's tokens as long as
    several labels are possible. A label that no alternative fits is left out.
    """
    start = _label_start("".join(token.text for token in tokens))
    found: dict[str, float] = {}
    prefix, path, offset = "", 0.0, 0
    for token in tokens:
        before, offset = offset, offset + len(token.text)
        if offset <= start:
            continue
        skipped = token.text[: max(0, start - before)]
        for alternative, log in token.alternatives.items():
            if not alternative.startswith(skipped):
                continue
            fits = _fitting(prefix + alternative[len(skipped) :], labels)
            if len(fits) == 1:
                _add(found, fits[0], path + log)
        prefix += token.text[len(skipped) :]
        if token.log is None:
            break
        path += token.log
        if prefix.strip() and len(_fitting(prefix, labels)) < 2:
            break
    # Rounding, or a spelling listed twice, may give a sum above 1.
    return {label: min(log, 0.0) for label, log in found.items()} or None


def _label_start(text: str) -> int:
    for pattern in (_VALUE, _LINE):
        found = [match.end() for match in pattern.finditer(text)]
        if found:
            return found[-1]
    return len(text) - len(text.lstrip())


def _fitting(prefix: str, labels: Sequence[str]) -> list[str]:
    """Return the labels that `prefix` begins, or that it has completed."""
    start = prefix.lstrip(" \n\t\"'*").casefold()
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


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    precise = _number(headers.get("retry-after-ms"))
    if precise is not None:
        return max(0.0, precise / 1000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is None and value:
        seconds = _until(value)
    return None if seconds is None or seconds > _LONGEST_WAIT else max(0.0, seconds)


def _until(date: str) -> float | None:
    try:
        parsed = email.utils.parsedate_tz(date)
        return None if parsed is None else email.utils.mktime_tz(parsed) - time.time()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Return the remaining limits in ``x-ratelimit-*``, or None without such headers.

    https://platform.openai.com/docs/guides/rate-limits; negative values (Azure's) mean unknown.
    """
    requests = as_count(headers.get("x-ratelimit-remaining-requests"))
    tokens = as_count(headers.get("x-ratelimit-remaining-tokens"))
    if requests is None and tokens is None:
        return None
    return RateLimit(
        requests=requests,
        requests_reset=duration(headers.get("x-ratelimit-reset-requests")),
        tokens=tokens,
        tokens_reset=duration(headers.get("x-ratelimit-reset-tokens")),
    )


def duration(text: str | None) -> float | None:
    """Read ``6m0s``, ``12ms`` or plain seconds."""
    if not text:
        return None
    seconds = _number(text)
    if seconds is None:
        parts = _DURATION.findall(text)
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else None
    return seconds if seconds is not None and 0 <= seconds <= _LONGEST_WAIT else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None
