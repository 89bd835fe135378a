"""Amounts of money read as people write them, and never as 0 where something is spent."""

from __future__ import annotations

import pytest

from sentikit.extension import usd_text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (1234.5, "1,234.50"),
        (1, "1.00"),
        (0.9, "0.9000"),
        (0.99999, "1.00"),
        (0.00012, "0.0001"),
        (0.000012, "0.00001"),
        (-0.5, "-0.5000"),
    ],
)
def test_small_amounts_are_not_rounded_to_zero(amount: float, text: str) -> None:
    assert usd_text(amount) == text
