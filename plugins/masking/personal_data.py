"""Detection of personal data by patterns and check digits.

libphonenumber finds telephone numbers, python-stdnum checks account and card numbers. Names of
people are not found, because no pattern distinguishes them from other words.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import phonenumbers
from stdnum import iban, luhn

Span = tuple[int, int]

#: The parts of an address before the @, read from right to left, and after it.
_MAILBOX = re.compile(r"[\w.+%-]+")
_HOST = re.compile(r"(?:[\w-]+\.)+[^\W\d_]{2,}")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"']+[^\s<>\"'.,;:!?)\]]", re.IGNORECASE)
_ADDRESS = re.compile(r"(?<![\w.:])[0-9A-Fa-f:.]{3,45}(?![\w:])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\d-])")
_HANDLE = re.compile(r"(?<![\w@.])@[A-Za-z0-9_]{2,30}\b")


def _matches(pattern: re.Pattern[str], valid: Callable[[str], bool]) -> Callable[[str], list[Span]]:
    """Find valid matches, or valid beginnings of matches, since patterns may match too much."""

    def spans(text: str) -> Iterator[Span]:
        at = 0
        while found := pattern.search(text, at):
            start, longest = found.span()
            ends = range(longest, start, -1)
            proved = (end for end in ends if end == longest or _may_end(pattern, text, start, end))
            end = next((end for end in proved if valid(text[start:end])), None)
            if end is not None:
                yield start, end
            # An invalid match may contain a valid one that begins later.
            at = start + 1 if end is None else end

    return lambda text: list(spans(text))


def _may_end(pattern: re.Pattern[str], text: str, start: int, end: int) -> bool:
    """Return whether a match may end here: at a word's end, before the longest end."""
    before, after = text[end - 1], text[end : end + 2]
    within = after[0].isalnum() or (after[0] == "." and after[1:].isdigit())
    return before.isalnum() and not within and pattern.fullmatch(text, start, end) is not None


def _emails(text: str) -> list[Span]:
    """Find e-mail addresses around each @; a search from every letter takes quadratic time."""
    spans: list[Span] = []
    least = 0
    backwards = text[::-1]
    for at in (found.start() for found in re.finditer("@", text)):
        mailbox = _MAILBOX.match(backwards, len(text) - at, len(text) - least)
        host = _HOST.match(text, at + 1)
        if mailbox and host:
            spans.append((len(text) - mailbox.end(), host.end()))
        least = host.end() if mailbox and host else at + 1
    return spans


def _is_address(found: str) -> bool:
    try:
        ipaddress.ip_address(found.rstrip("."))
    except ValueError:
        return False
    return True


def _is_iban(found: str) -> bool:
    # Without country-specific rules, whose lists of banks are outdated.
    return bool(iban.is_valid(found, check_country=False))


def _is_card(found: str) -> bool:
    return bool(luhn.is_valid(re.sub(r"[ -]", "", found)))


#: By kind, the function that finds spans of personal data; telephone numbers are separate.
FINDERS: dict[str, Callable[[str], list[Span]]] = {
    "email": _emails,
    "url": _matches(_URL, lambda found: True),
    "iban": _matches(_IBAN, _is_iban),
    "card": _matches(_CARD, _is_card),
    "ssn": _matches(_SSN, lambda found: True),
    "ip": _matches(_ADDRESS, _is_address),
    "handle": _matches(_HANDLE, lambda found: True),
}
KINDS = (*FINDERS, "phone")


def mask(
    text: str,
    kinds: Sequence[str] = KINDS,
    regions: Sequence[str] = ("US",),
    counts: Counter[str] | None = None,
) -> str:
    """Return a text with its personal data replaced by ``<EMAIL>``, ``<PHONE>`` and so on.

    Args:
        text: the text to mask.
        kinds: some of `KINDS`; overlapping spans become the one that begins first, or the
            longest.
        regions: of telephone numbers without a country code, as ``US`` or ``DE``.
        counts: receives how many pieces of each kind were replaced.
    """
    found = [(*span, kind) for kind in kinds if kind in FINDERS for span in FINDERS[kind](text)]
    if "phone" in kinds:
        found += [(*span, "phone") for region in regions for span in _phones(text, region)]
    kept: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(found, key=lambda one: (one[0], -one[1], KINDS.index(one[2]))):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end, kind))
        elif end > kept[-1][1]:
            kept[-1] = (kept[-1][0], end, kept[-1][2])
    if counts is not None:
        counts.update(kind for _, _, kind in kept)
    edges = [0, *(edge for start, end, _ in kept for edge in (start, end)), len(text)]
    between = [text[start:end] for start, end in pairwise(edges)][::2]
    names = [f"<{kind.upper()}>" for _, _, kind in kept]
    return "".join(piece for pair in zip(between, [*names, ""], strict=True) for piece in pair)


def _phones(text: str, region: str) -> Iterator[Span]:
    for match in phonenumbers.PhoneNumberMatcher(text, region):
        yield match.start, match.end
