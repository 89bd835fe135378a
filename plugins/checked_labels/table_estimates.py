"""Estimates for a labelled table from checked texts, by group, and differences between groups."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit import Estimate, InputError, estimate_accuracy, estimate_shares
from sentikit.extension import Estimates, holm

from .checked import CheckedFile
from .pile import refuse_other_texts, scan_pile
from .tables import ReadTable

#: Groups with fewer checks are pooled.
LEAST_IN_GROUP = 30
POOLED = "(other groups)"


def estimate_table(table: ReadTable, checked: CheckedFile, level: float = 0.95) -> Estimates:
    """Estimate shares by group, accuracy and macro-F1 of a labelled table.

    Raises:
        InputError: a checked text is not in the table, or none has a label.
    """
    every = checked.checks()
    warnings = []
    checks = [c for c in every if c.label is not None]
    if len(checks) < 2:
        raise InputError(
            f"{checked.path}: {len(checks)} texts have a label; at least two are needed."
        )
    if len(checks) < len(every):
        warnings.append(
            f'{len(every) - len(checks)} of {len(every)} checked texts are "not sure" or skipped: '
            "each share may be off by up to their share of the pile."
        )
    drawn_from = checked.draw.get("rows", table.rows)
    if drawn_from != table.rows:
        warnings.append(
            f"{checked.path} was drawn from {drawn_from:,} rows, but {table.source.typed} has "
            f"{table.rows:,}: the estimates are wrong for rows that could not be drawn."
        )
    pile = scan_pile(table.source, checks)
    refuse_other_texts(pile.source, pile.fingerprint, table.fingerprint)
    rows = pile.rows_of(checks)
    numbers = {name: number for number, name in enumerate(table.labels.classes)}
    truth = np.array([numbers[c.label or ""] for c in checks])
    weights = None
    if not checked.is_uniform:
        chances = [c.inclusion for c in checks]
        if None in chances:
            raise InputError(
                f"{checked.path} was not drawn uniformly, and some texts lack the probability with "
                "which they were drawn (column inclusion), so they cannot be weighted."
            )
        weights = 1 / np.array(chances, float)
    probabilities = table.labels.probabilities.astype(np.float64)
    drawn = probabilities[rows]
    shares = estimate_shares(probabilities, drawn, truth, level=level, checked_weights=weights)
    by_group, differences = {}, []
    for column, values in table.groups.items():
        pooled, note = _pooled(values, rows)
        warnings += note and [f"{column}: {note}"]
        found = estimate_shares(
            probabilities, drawn, truth, level=level, checked_weights=weights,
            groups=pooled, checked_groups=[pooled[row] for row in rows],
        )  # fmt: skip
        by_group[column] = found
        differences += _differences(column, found, table.labels.classes)
    for entry, p in zip(differences, holm([d["p"] for d in differences]), strict=True):
        entry["p_holm"] = p
    accuracy = estimate_accuracy(
        table.labels.labels.astype(np.int64), table.labels.confidence, rows, truth, level=level,
        checked_weights=weights,
    )  # fmt: skip
    return Estimates(table.labels.classes, shares, by_group, accuracy, differences, warnings)


def _pooled(values: list[str], rows: NDArray[np.int64]) -> tuple[list[str], str]:
    """Pool groups with too few checks; return a sentence about it too."""
    counts = Counter(values[row] for row in rows)
    small = sorted(name for name in set(values) if counts[name] < LEAST_IN_GROUP)
    if not small:
        return values, ""
    if len(small) == 1 and counts[small[0]] > 1:
        return values, f"{small[0]} has only {counts[small[0]]} checks: its intervals are wide."
    if sum(counts[name] for name in small) < 2 and len(small) < len(set(values)):
        small.append(min((n for n in set(values) if n not in small), key=lambda n: counts[n]))
    shown = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
    few = frozenset(small)
    note = f"{shown}: too few checks each (below {LEAST_IN_GROUP}), estimated as {POOLED}."
    return [POOLED if value in few else value for value in values], note


def _differences(
    column: str, found: Sequence[Estimate], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the differences between pairs of groups in the share of each class, two-sided."""
    from scipy.stats import norm

    entries = []
    for number, name in enumerate(classes):
        own = [e for e in found if e.name == number]
        for one, other in itertools.combinations(own, 2):
            spread = float(np.hypot(_error(one), _error(other)))
            difference = other.value - one.value
            p = 1.0 if spread == 0 else float(2 * norm.sf(abs(difference) / spread))
            entries.append(
                {
                    "column": column,
                    "class": name,
                    "groups": [one.group, other.group],
                    "difference": difference,
                    "p": p,
                }
            )
    return entries


def _error(estimate: Estimate) -> float:
    """Return a standard error; for an exact interval, that of a normal interval of its width."""
    from scipy.stats import norm

    if estimate.standard_error is not None:
        return estimate.standard_error
    return (estimate.high - estimate.low) / (2 * float(norm.ppf((1 + estimate.level) / 2)))
