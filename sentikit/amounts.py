"""Amounts and shares: how they are written, and the type of options that take them."""

from __future__ import annotations

import math
from typing import Any

import click


def usd_text(amount: float) -> str:
    """Write USD without their sign: cents from a dollar on, four decimals or more below.

    However little it is, one digit counts: 0 is nothing at all.
    """
    if amount == 0 or round(abs(amount), 4) >= 1:
        return f"{amount:,.2f}"
    return f"{amount:.{max(4, -math.floor(math.log10(abs(amount))))}f}"


class FiniteRange(click.FloatRange):
    """The type of a click option that is an amount or a share: a `click.FloatRange`, finite.

    Click itself takes ``nan`` for a number within any bounds, and ``inf`` where there is no upper
    one.
    """

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or refuse the option with a sentence and exit code 2."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number
