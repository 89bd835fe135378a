"""How many failing rows a run puts up with: ``--fail-on-error N|FRACTION``."""

from __future__ import annotations

from dataclasses import dataclass

from sentikit.errors import InputError


@dataclass(frozen=True)
class FailureLimit:
    """So many failing rows, or such a share of all rows, end the run.

    Attributes:
        count: rows, or None.
        share: between 0 and 1, or None.
    """

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailureLimit:
        """Read ``10`` as ten rows, ``0.05`` and ``5%`` as one row in twenty.

        Raises:
            InputError: neither of them.
        """
        stripped = text.strip()
        try:
            if stripped.isdigit() and int(stripped) > 0:
                return cls(count=int(stripped))
            percent = stripped.endswith("%")
            share = float(stripped.rstrip("%")) / (100 if percent else 1)
            if 0 < share <= 1 and not stripped.isdigit():
                return cls(share=share)
        except ValueError:
            pass
        raise InputError(
            f"--fail-on-error {text!r} must be a count of rows from 1, as 10, or a fraction, as "
            "0.05 or 5%."
        )

    def reached(self, failed: int, total: int) -> bool:
        """Return whether `failed` rows of `total` are too many."""
        if self.count is not None:
            return failed >= self.count
        return self.share is not None and failed >= max(1.0, self.share * total)

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.share:g}"
