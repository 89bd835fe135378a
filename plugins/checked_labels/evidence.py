"""Evidence against a certificate: newly checked texts, and drift of a later pile."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sentikit import InputError, Monitor
from sentikit.extension import read_json, write_json

from .checked import CheckedFile
from .tables import ReadTable


def watch(
    certificate: Path, record: Mapping[str, Any], checked: CheckedFile, level: float
) -> dict[str, Any]:
    """Add newly checked texts to the evidence that is kept beside a certificate.

    Only texts that the certificate accepts count, each once, also over several files; "not sure"
    counts as wrong, as in the certificate.

    Raises:
        InputError: the file names no predictions, was not drawn uniformly, was drawn by another
            classifier's confidences, or is the one the certificate rests on.
    """
    if checked.fingerprint() == record["checked_file"]["fingerprint"]:
        raise InputError(
            f"{checked.path} is the file that the certificate is based on, so it cannot test it. "
            "Check new texts."
        )
    if not checked.is_uniform:
        raise InputError(
            f"{checked.path} was not drawn uniformly, so it tests no certificate. Draw the texts "
            "with: sentikit annotate LABELLED --output new-checks.csv"
        )
    other = checked.draw.get("classifier")
    if other is not None and other != record["classifier"]:
        raise InputError(
            f"{checked.path} was drawn from labels of another classifier than the certificate's."
        )
    if not any(c.confidence is not None for c in checked.answers):
        raise InputError(
            f"{checked.path} has no columns predicted_label and confidence. Draw the texts from a "
            "labelled table: sentikit annotate LABELLED --output new-checks.csv"
        )
    beside = certificate.with_suffix(".monitor.json")
    kept = read_json(beside) if beside.exists() else {"certificate": record["date"], "texts": []}
    if kept["certificate"] != record["date"]:
        kept = {"certificate": record["date"], "texts": []}
    counted = {entry["text"] for entry in kept["texts"]}
    new = 0
    for check in sorted(checked.checks(), key=lambda c: c.time):
        digest = hashlib.sha256(check.text.encode("utf-8", "replace")).hexdigest()[:16]
        accepted = check.confidence is not None and check.confidence >= record["threshold"] - 5e-7
        if accepted and digest not in counted:
            counted.add(digest)
            new += 1
            kept["texts"].append({"text": digest, "correct": check.label == check.predicted})
    monitor = Monitor(1 - record["target"], level)
    for entry in kept["texts"]:
        monitor.update(entry["correct"])
    write_json(beside, kept)
    evidence = min(monitor.evidence, 1e300)
    return {
        "alarm": monitor.alarm,
        "evidence": evidence,
        "checked": monitor.checked,
        "wrong": monitor.wrong,
        "new": new,
    }


def drift(reference: Mapping[str, Any], table: ReadTable) -> list[dict[str, Any]]:
    """Compare a later pile with the certified one, without labels.

    The effect sizes are the Kolmogorov-Smirnov distance of confidences and lengths, and Cohen's w
    of class shares. They matter more than p-values, which are small for all large piles.

    Raises:
        InputError: the classes differ.
    """
    from scipy.stats import chisquare, ks_2samp

    if set(reference["classes"]) != set(table.labels.classes):
        raise InputError("The classes of the pile and of the certificate differ.")
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
        # Both samples vary.
        scale = now_counts.sum() * before_counts.sum() / (now_counts.sum() + before_counts.sum())
        p = float(chisquare(shares * scale, expected * scale).pvalue)
        found.append({"of": "class shares", "effect": effect, "p": p})
    return [*found, _unknown_words(reference, table)]


def _unknown_words(reference: Mapping[str, Any], table: ReadTable) -> dict[str, Any]:
    """Compare the share of words outside the certified pile's common words.

    The effect is Cohen's h. Words of one text are dependent, so the p-value is too small.
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
