"""Amounts of money as people read them."""

from __future__ import annotations

import math


def usd_text(amount: float) -> str:
    """Write USD without their sign: cents from a dollar on, four decimals or more below.

    However little it is, one digit counts: 0 is nothing at all.
    """
    if amount == 0 or round(abs(amount), 4) >= 1:
        return f"{amount:,.2f}"
    return f"{amount:.{max(4, -math.floor(math.log10(abs(amount))))}f}"
