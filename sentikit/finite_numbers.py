"""Options that are amounts or shares: finite numbers within bounds."""

from __future__ import annotations

import math
from typing import Any

import click


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
