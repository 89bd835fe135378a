"""Monitoring of a certificate: evidence from newly checked texts, and drift of a later pile."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sentikit.errors import InputError
from sentikit.files import read_json, write_json

if TYPE_CHECKING:
    from sentikit.assurance.checked import CheckedFile
    from sentikit.assurance.pile import LabelledTable

#: Error rates one bets on, as multiples of the certified one, with their parts of the capital.
#: Most lies on moderate growth, which takes longest to notice; growth beyond is noticed anyway.
BETS = ((1.25, 0.15), (1.5, 0.55), (2.0, 0.2), (3.0, 0.1))


class Monitor:
    """An e-process over checked accepted labels: valid whenever one looks and stops.

    For each bet on an error rate q = r·α, with the part w of the capital,

        E_t = Σ w · Π_i (1 + λ(x_i − α)),   λ = (q − α)/(α(1 − α)),

    where x_i = 1 for a wrong label: the likelihood ratio of q against α. Under an error rate of at
    most α it is a non-negative supermartingale that starts at 1, so it reaches 1/δ with probability
    at most δ, ever (Ville 1939). The bets were fixed by simulation on the study's validation
    predictions.

    Attributes:
        error_rate: α, the certified one.
        level: 1 − δ; a false alarm ever has probability at most δ.
        checked: labels seen so far.
        wrong: those of them that were wrong.
        alarm: whether E_t has reached 1/δ at any time.
    """

    def __init__(self, error_rate: float, level: float = 0.95) -> None:
        for name, value in (("error_rate", error_rate), ("level", level)):
            if not 0 < value < 1:
                raise InputError(f"{name} is {value:g}; it lies between 0 and 1.")
        self.error_rate = error_rate
        self.level = level
        self.checked = 0
        self.wrong = 0
        self.alarm = False
        self._rates = [min(r * error_rate, (1 + error_rate) / 2) for r, _ in BETS]
        self._logs = [math.log(part) for _, part in BETS]

    def update(self, correct: bool) -> bool:
        """Take in one checked label, in the order of checking; return whether there is an alarm."""
        self.checked += 1
        self.wrong += not correct
        alpha = self.error_rate
        for bet, rate in enumerate(self._rates):
            self._logs[bet] += math.log((1 - rate) / (1 - alpha) if correct else rate / alpha)
        if self.evidence * (1 - self.level) >= 1:
            self.alarm = True
        return self.alarm

    @property
    def evidence(self) -> float:
        """E_t, the evidence that the error rate is above the certified one; 1 at the start."""
        highest = max(self._logs)
        if highest > 700:
            return math.inf
        return math.exp(highest) * sum(math.exp(log - highest) for log in self._logs)


def watch(
    certificate: Path, record: Mapping[str, Any], checked: CheckedFile, level: float
) -> dict[str, Any]:
    """Take newly checked texts into the evidence that is kept beside a certificate.

    Texts that the certificate does not accept say nothing about it. A text counts once, also over
    several files; "not sure" counts as wrong, as it does in the certificate.

    Raises:
        InputError: the file names no predictions, was drawn by another classifier's confidences,
            or is the one the certificate rests on.
    """
    if checked.fingerprint() == record["checked_file"]["fingerprint"]:
        raise InputError(
            f"{checked.path} is the file that the certificate rests on; it cannot test it. Check "
            "new texts."
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
