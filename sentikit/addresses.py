"""Addresses of servers that users give, which may hold a password or a key."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def parsed_address(url: str) -> SplitResult | None:
    """Part an address of http or https; None where it is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port is no number up to 65535, or a bracket is open
        return None
    return parts if usable else None


def may_hold_a_key(url: str) -> bool:
    """Say whether an address may hold a secret, so that no message may show it."""
    return "@" in url or "?" in url
