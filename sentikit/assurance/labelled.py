"""A labelled table with checked texts: estimates by group, and drift of a later pile."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.assurance.checked import CheckedFile, match_rows
from sentikit.assurance.estimates import (
    AccuracyEstimate,
    Estimate,
    estimate_accuracy,
    estimate_shares,
)
from sentikit.assurance.pile import CONFIDENCE, Labels, Language, scan_pile
from sentikit.comparison.significance import holm
from sentikit.datasets.labels import LabelScheme, scheme_for_classes
from sentikit.datasets.tables import InputFile
from sentikit.errors import InputError, did_you_mean
from sentikit.labelling.table_writer import PROBABILITIES_COLUMN
from sentikit.runs.result_format import LABEL_COLUMN

#: Groups with fewer checks are pooled.
LEAST_IN_GROUP = 30
POOLED = "(other groups)"
_PREFIX = "probability_"


@dataclass(frozen=True)
class LabelledTable:
    """A table that `label` or `predict` wrote.

    Attributes:
        source: the file.
        labels: of its rows.
        groups: the values of the columns asked for, of each row.
        language: lengths and words of its texts.
    """

    source: InputFile
    labels: Labels
    groups: Mapping[str, list[str]]
    rows: int
    language: Language

    @property
    def scheme(self) -> LabelScheme:
        """The classes, and what is read as each."""
        return scheme_for_classes(self.labels.classes)


def read_labelled(
    path: Path, by: Sequence[str] = (), text_columns: tuple[str, ...] = ()
) -> LabelledTable:
    """Read the labels of a table; texts are not kept.

    Raises:
        InputError: it has no labels, or lacks a column.
    """
    source = InputFile(str(path), None, text_columns)
    with source.open() as rows:
        text_of = source.reader(rows)
        if LABEL_COLUMN not in rows.columns:
            raise InputError(
                f"{path} has no column {LABEL_COLUMN!r}; it is a table that sentikit label or "
                "predict wrote."
            )
        for name in by:
            if name not in rows.columns:
                raise InputError(
                    f"{path} has no column {name!r}. {did_you_mean(name, rows.columns)}"
                )
        named = [c.removeprefix(_PREFIX) for c in rows.columns if c.startswith(_PREFIX)]
        said: list[str] = []
        shares: list[list[float]] = []
        sure: list[float] = []
        language, number = Language(), 0
        groups: dict[str, list[str]] = {name: [] for name in by}
        for number, (where, row) in enumerate(rows, 1):
            said.append(str(row.get(LABEL_COLUMN) or ""))
            nested = row.get(PROBABILITIES_COLUMN)
            if isinstance(nested, dict):
                named = named or list(nested)
                shares.append([_number(nested.get(name)) for name in named])
            else:
                shares.append([_number(row.get(f"{_PREFIX}{name}")) for name in named])
            sure.append(_number(row.get(CONFIDENCE)))
            language.add(number - 1, text_of(where, row))
            for name in by:
                groups[name].append(str(row.get(name) or "(none)"))
    classes = tuple(named) or tuple(sorted(set(said) - {""}))
    if len(classes) < 2:
        raise InputError(f"{path} names fewer than two classes; estimates need at least two.")
    labels = _labels(classes, said, shares, sure)
    return LabelledTable(source, labels, groups, number, language)


def _labels(
    classes: tuple[str, ...], said: list[str], shares: list[list[float]], sure: list[float]
) -> Labels:
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers.get(name, -1) for name in said], np.int16)
    given = np.array([row if row else [np.nan] * len(classes) for row in shares], np.float32)
    table = given.reshape(len(said), len(classes))
    silent = np.isnan(table).any(axis=1)
    table[silent] = np.where(labels[silent, None] == np.arange(len(classes)), 1.0, 0.0)
    table[silent & (labels < 0)] = 1 / len(classes)
    confidence = np.array(sure)
    known = np.where(labels < 0, np.nan, table.max(axis=1))
    return Labels(classes, labels, np.where(np.isnan(confidence), known, confidence), table)


@dataclass(frozen=True)
class Estimates:
    """What checked texts say of a labelled table.

    Attributes:
        shares: of the whole, one a class.
        by_group: column to estimates of each group.
        accuracy: of the labels, with macro-F1.
        differences: between groups, with p-values corrected by Holm.
        warnings: what a reader has to know.
    """

    classes: tuple[str, ...]
    shares: list[Estimate]
    by_group: Mapping[str, list[Estimate]]
    accuracy: AccuracyEstimate
    differences: list[dict[str, Any]]
    warnings: list[str]


def estimate_table(table: LabelledTable, checked: CheckedFile, level: float = 0.95) -> Estimates:
    """Estimate shares by group, accuracy and macro-F1 of a labelled table.

    Raises:
        InputError: a checked text is not in the table, or none has a label.
    """
    every = checked.checks()
    warnings = []
    checks = [c for c in every if c.label is not None]
    if len(checks) < 2:
        raise InputError(f"{checked.path}: {len(checks)} texts have a label; two at least.")
    if len(checks) < len(every):
        warnings.append(
            f'{len(every) - len(checks)} of {len(every)} checked texts are "not sure" or skipped: '
            "each share may be off by as much as their part of the pile."
        )
    texts = {c.text for c in checks}
    pile = scan_pile(table.source, texts, {c.id for c in checks if c.id})
    rows = np.array(match_rows(checks, pile.places, pile.by_id, table.source.file), np.int64)
    numbers = {name: number for number, name in enumerate(table.labels.classes)}
    truth = np.array([numbers[c.label or ""] for c in checks])
    weights = None
    if not checked.is_uniform:
        chances = [c.inclusion for c in checks]
        if None in chances:
            raise InputError(
                f"{checked.path} was not drawn uniformly, and some texts lack the probability with "
                "which they were drawn (column inclusion): no estimate stands on them."
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
    """Return groups with too few checks under one name, and a sentence that says so."""
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
    """Return a standard error; of an exact interval, the one a normal interval of its width has."""
    from scipy.stats import norm

    if estimate.standard_error is not None:
        return estimate.standard_error
    return (estimate.high - estimate.low) / (2 * float(norm.ppf((1 + estimate.level) / 2)))


def drift(reference: Mapping[str, Any], table: LabelledTable) -> list[dict[str, Any]]:
    """Compare a later pile with the certified one; no labels are needed.

    Effect sizes come first: the Kolmogorov-Smirnov distance of confidences and lengths, Cohen's w
    of class shares. With large piles every p-value is small.

    Raises:
        InputError: the classes differ.
    """
    from scipy.stats import chisquare, ks_2samp

    if set(reference["classes"]) != set(table.labels.classes):
        raise InputError("The pile is labelled with other classes than the certificate's.")
    found = []
    known = table.labels.confidence[~np.isnan(table.labels.confidence)]
    for name, before, now in (
        ("confidence", reference["confidence"], known),
        ("length", reference["length"], table.language.lengths),
    ):
        if len(before) and len(now):
            test = ks_2samp(before, now)
            found.append({"of": name, "effect": float(test.statistic), "p": float(test.pvalue)})
    order = [table.labels.classes.index(name) for name in reference["classes"]]
    now_counts = np.bincount(table.labels.labels[table.labels.labels >= 0], minlength=len(order))[
        order
    ]
    before_counts = np.array(reference["class_counts"], float)
    if now_counts.sum() and (before_counts > 0).all():
        expected = before_counts / before_counts.sum()
        shares = now_counts / now_counts.sum()
        effect = float(np.sqrt((((shares - expected) ** 2) / expected).sum()))
        # The certified pile's shares are counted too: both samples vary.
        scale = now_counts.sum() * before_counts.sum() / (now_counts.sum() + before_counts.sum())
        p = float(chisquare(shares * scale, expected * scale).pvalue)
        found.append({"of": "class shares", "effect": effect, "p": p})
    return [*found, _unknown_words(reference, table)]


def _unknown_words(reference: Mapping[str, Any], table: LabelledTable) -> dict[str, Any]:
    """Compare the share of words that are not among the certified pile's common ones.

    The effect is Cohen's h. Words of one text go together, so the p-value is too small.
    """
    from scipy.stats import norm

    words, before = table.language.words, reference["all_words"]
    now = words.total()
    unknown = now - sum(words[word] for word in reference["words"])
    if not now or not before:
        return {"of": "unknown words", "effect": 0.0, "p": 1.0}
    shares = [reference["unknown_words"] / before, unknown / now]
    angles = [2 * float(np.arcsin(np.sqrt(share))) for share in shares]
    effect = abs(angles[1] - angles[0])
    p = float(2 * norm.sf(effect / np.sqrt(1 / now + 1 / before)))
    return {"of": "unknown words", "effect": effect, "p": p}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
