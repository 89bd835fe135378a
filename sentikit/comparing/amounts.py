"""USD as people read them."""

from __future__ import annotations


def usd(amount: float) -> str:
    """Write an amount: cents from a dollar on, and hundredths of a cent below."""
    return f"{amount:,.2f}" if amount >= 1 or amount == 0 else f"{amount:.4f}"
