"""Agreement between annotators, and of an annotator with their own earlier answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .checked import Check


def annotator_agreement(checks: Sequence[Check], labels: Sequence[str]) -> dict[str, Any]:
    """Return the agreement of annotators on texts that several of them labelled.

    Cohen's kappa (1960) for each pair, Fleiss' kappa (1971) over texts that all labelled, and
    Krippendorff's alpha (nominal) over all, by the library `krippendorff` where it is installed.
    """
    names = sorted({c.annotator for c in checks if c.label is not None})
    by_text: dict[Any, dict[str, str]] = {}
    for check in checks:
        if check.label is not None:
            by_text.setdefault(check.key, {})[check.annotator] = check.label
    shared = [answers for answers in by_text.values() if len(answers) > 1]
    pairs = {}
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            both = [(a[one], a[other]) for a in shared if one in a and other in a]
            if both:
                pairs[f"{one or '(no name)'} and {other or '(no name)'}"] = {
                    "texts": len(both),
                    "agree": sum(a == b for a, b in both) / len(both),
                    "cohens_kappa": cohens_kappa(both, labels),
                }
    full = [a for a in shared if len(a) == len(names)]
    return {
        "annotators": names,
        "texts": len(shared),
        "pairs": pairs,
        "fleiss_kappa": fleiss_kappa(full, labels) if full else None,
        "krippendorffs_alpha": _alpha(shared, names, labels),
    }


def cohens_kappa(pairs: Sequence[tuple[str, str]], labels: Sequence[str]) -> float:
    """Return Cohen's kappa of pairs of labels; 1 if both always give the same single label."""
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    chance = (
        sum(sum(a == c for a, _ in pairs) * sum(b == c for _, b in pairs) for c in labels) / n**2
    )
    return 1.0 if chance == 1 else (observed - chance) / (1 - chance)


def fleiss_kappa(answers: Sequence[Mapping[str, str]], labels: Sequence[str]) -> float:
    """Return Fleiss' kappa of texts that the same number of annotators labelled."""
    counts = np.array([[list(a.values()).count(c) for c in labels] for a in answers], float)
    raters = counts.sum(axis=1)[0]
    each = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))
    chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return 1.0 if chance == 1 else float((each.mean() - chance) / (1 - chance))


def _alpha(
    answers: Sequence[Mapping[str, str]], names: Sequence[str], labels: Sequence[str]
) -> float | None:
    try:
        import krippendorff
    except ImportError:
        return None
    numbers = {label: float(number) for number, label in enumerate(labels)}
    table = [[numbers[a[n]] if n in a else np.nan for a in answers] for n in names]
    if len({value for row in table for value in row if not np.isnan(value)}) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))


def self_agreement(pairs: Sequence[tuple[Check, Check]]) -> dict[str, Any]:
    """Return how often annotators give a repeated text the same label again."""
    both = [(a.label, b.label) for a, b in pairs if a.label is not None and b.label is not None]
    return {
        "texts": len(both),
        "same": sum(a == b for a, b in both) / len(both) if both else None,
    }
