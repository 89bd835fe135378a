"""The job of `label`: a pile labelled, with a certificate where there are checked texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.assurance.certificates import (
    Certificate,
    certify,
    certify_agreement,
    least_abstention,
    lower_bound,
)
from sentikit.assurance.checked import (
    LEAST_CHECKS,
    Check,
    CheckedFile,
    fold,
    match_rows,
    planned_looks,
    record_look,
)
from sentikit.assurance.draws import uniform_draw
from sentikit.assurance.pile import (
    CERTIFIED,
    REVIEW,
    Labels,
    Pile,
    PileJob,
)
from sentikit.classifiers.classifier import Classifier
from sentikit.datasets.labels import LabelScheme
from sentikit.errors import InputError

#: Error rates of the checker that a certificate answers for.
CHECKER_ERRORS = (0.01, 0.03, 0.05)
KEPT, ASKED = "kept", "asked"
#: Confidences and lengths that the reference for a label-free check keeps.
_REFERENCE = 2000


@dataclass(frozen=True)
class Promise:
    """What is to be certified.

    Attributes:
        target: accuracy among the accepted, or agreement of all rows with the LLM.
        level: 1 less the risk.
        looks: that are declared; None: as the ledger says, else 1.
    """

    target: float
    level: float = 0.9
    looks: int | None = None


@dataclass(frozen=True)
class Matched:
    """Checked texts with their rows in the pile."""

    file: CheckedFile
    checks: tuple[Check, ...]
    rows: NDArray[np.int64]

    def truth(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """Return the class number that people gave each check; -2 for "not sure"."""
        numbers = {name: number for number, name in enumerate(classes)}
        return np.array([numbers.get(check.label or "", -2) for check in self.checks])

    def folded(self, scheme: LabelScheme) -> Matched:
        """Return the same with labels folded into classes.

        Raises:
            InputError: a label is no class.
        """
        checks = tuple(fold(check, scheme, str(self.file.path)) for check in self.checks)
        return replace(self, checks=checks)


def matched(checked: CheckedFile, pile: Pile) -> Matched:
    """Find the checked texts in the pile, and refuse what certifies nothing.

    Raises:
        InputError: too few checks, a draw that was not uniform, a pile that has changed, a text
            that is not in the pile, or an open conflict.
    """
    checks, name = checked.checks(), str(checked.path)
    if len(checks) < LEAST_CHECKS:
        raise InputError(
            f"{name} holds {len(checks)} checks; a certificate needs at least {LEAST_CHECKS}, and "
            "some hundred to certify much. See: sentikit label FILE --with X --plan"
        )
    if not checked.is_uniform:
        raise InputError(
            f"{name} was not drawn uniformly ({checked.draw.get('design', 'unequal inclusion')}), "
            "so it certifies nothing. sentikit estimate weighs it; for a certificate draw with: "
            f"sentikit annotate {pile.source.file} --size N"
        )
    drawn_from = checked.draw.get("pile")
    if drawn_from is not None and drawn_from != pile.fingerprint:
        raise InputError(
            f"{pile.source.file} has changed since the texts of {name} were drawn from it "
            f"({checked.draw.get('rows', '?'):,} rows then, {pile.rows:,} now). Certify the file "
            "of then, or draw again."
        )
    rows = match_rows(checks, pile.places, pile.by_id, pile.source.file)
    return Matched(checked, checks, np.array(rows, np.int64))


def describe_task(said: NDArray[np.int16], truth: NDArray[np.int64], target: float) -> str:
    """Say what the checked texts alone tell of a target, before the pile is labelled."""
    n, wrong = len(truth), int((said != truth).sum())
    error, limit = wrong / n, 1 - target
    line = f"On {n} checked texts {wrong} labels are wrong ({error:.1%})."
    if error <= limit:
        return line + f" That meets accuracy {target:g} before any row is left out."
    needed = least_abstention(error, limit)
    surely = least_abstention(lower_bound(wrong, n, max(n, 10**6), 0.05), limit)
    line += (
        f" For accuracy {target:g} at least {needed:.0%} of the rows must be left out, however "
        "good the confidence is"
    )
    return line + (f" (at least {surely:.0%}, at level 0.95)." if surely > 0 else ".")


def certified(
    labels: Labels, found: Matched, promise: Promise, identity: Mapping[str, str]
) -> tuple[Certificate, dict[float, float]]:
    """Certify labels, and what would be certified if the checker errs.

    A checker who errs on e of the texts hides at most that share of wrong labels, so certifying
    accuracy + e answers for it in the worst case.

    Raises:
        InputError: the look was not declared.
    """
    look = dict(identity) | {
        "kind": "accuracy",
        "target": promise.target,
        "level": promise.level,
        "checked": found.file.fingerprint(),
    }
    looks = planned_looks(found.file, look, promise.looks)
    correct = labels.labels[found.rows] == found.truth(labels.classes)
    confidence, drawn = labels.confidence, labels.confidence[found.rows]

    def at(accuracy: float) -> Certificate:
        return certify(
            confidence, drawn, correct, accuracy=accuracy, level=promise.level, looks=looks
        )

    certificate = at(promise.target)
    errs = {
        rate: at(promise.target + rate).share if promise.target + rate < 1 else 0.0
        for rate in CHECKER_ERRORS
    }
    record_look(found.file, look, looks)
    return certificate, errs


def statuses(labels: Labels, certificate: Certificate | None) -> list[str]:
    """Return the status of each row; all are for review where nothing is certified."""
    if certificate is None or not certificate.accepted:
        return [REVIEW] * len(labels.labels)
    accepted = np.nan_to_num(labels.confidence, nan=-np.inf) >= certificate.threshold
    return [CERTIFIED if one else REVIEW for one in accepted.tolist()]


def sentence(certificate: Certificate, file: str) -> str:
    """Return a certificate in one sentence."""
    level, risk = f"{certificate.level:.0%}", f"{1 - certificate.target:.1%}"
    if not certificate.accepted:
        return (
            f"Nothing of {file} is certified at accuracy {certificate.target:g} and level {level} "
            f"with {certificate.checked} checks."
        )
    return (
        f"{certificate.accepted:,} of {certificate.rows:,} rows of {file} "
        f"({certificate.share:.1%}) are labelled with at most {risk} errors, guaranteed at {level} "
        f"({certificate.checked} checked texts, {certificate.wrong} of the "
        f"{certificate.checked_accepted} accepted ones wrong)."
    )


def fingerprint(description: Any) -> str:
    """Return what tells a classifier from another."""
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def certificate_record(
    certificate: Certificate,
    job: PileJob,
    labels: Labels,
    members: Mapping[str, Classifier],
    found: Matched,
    errs: Mapping[float, float],
) -> dict[str, Any]:
    """Return a certificate as JSON values, with what it rests on, assumes and cost."""
    pile = job.pile
    record = {name: value for name, value in asdict(certificate).items() if name != "threshold"}
    finite = certificate.accepted > 0
    unsure = sum(c.label is None for c in found.checks)
    return {
        "kind": "accuracy",
        "sentence": sentence(certificate, pile.source.file),
        **record,
        "threshold": certificate.threshold if finite else None,
        "paid_usd": job.paid,
        "paid_usd_by_classifier": job.costs,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pile": {
            "file": pile.source.file,
            "rows": pile.rows,
            "fingerprint": pile.fingerprint,
            "duplicates": pile.duplicates,
        },
        "checked_file": {
            "file": str(found.file.path),
            "fingerprint": found.file.fingerprint(),
            "not_sure": unsure,
            "annotators": sorted({c.annotator for c in found.checks if c.annotator}),
        },
        "classifiers": {name: fingerprint([name, c.describe()]) for name, c in members.items()},
        "classifier": fingerprint({name: c.describe() for name, c in members.items()}),
        "combination": "product of probabilities, fixed beforehand" if len(members) > 1 else None,
        "share_if_the_checker_errs": {f"{rate:g}": share for rate, share in errs.items()},
        "method": (
            f"fixed-sequence testing from share {certificate.start:.3f} in steps of 0.01; exact "
            "unconditional hypergeometric test"
        ),
        "assumes": [
            "The checked texts were drawn uniformly from the pile, before anybody saw its labels.",
            "The people who checked them are right; see share_if_the_checker_errs.",
            "The promise is about this pile as a whole, not about groups of it or later texts.",
            f'"Not sure" counts as wrong ({unsure} such).',
        ],
        "reference": reference(labels) | pile.language.reference(),
    }


def reference(labels: Labels) -> dict[str, Any]:
    """Return what a label-free check compares a later pile with: a sample of confidences."""
    known = labels.confidence[~np.isnan(labels.confidence)]
    size = min(_REFERENCE, len(known))
    sample = np.sort(known[uniform_draw(len(known), size, 0).rows]) if size else known
    counts = np.bincount(labels.labels[labels.labels >= 0], minlength=len(labels.classes))
    return {
        "classes": list(labels.classes),
        "class_counts": counts.tolist(),
        "confidence": [round(float(value), 6) for value in sample],
    }


@dataclass(frozen=True)
class Agreed:
    """What `label --agree-with` comes to.

    Attributes:
        labels: the cheap classifier's where they stand, else the LLM's.
        status: kept or asked, of each row.
        certificate: of the agreement.
        asked: rows that the LLM labelled.
        paid: USD, None where unknown.
        llm_alone: USD that the LLM would have cost for all rows, by its mean; None where unknown.
    """

    labels: Labels
    status: list[str]
    certificate: Certificate
    asked: int
    paid: float | None
    llm_alone: float | None


def agree(
    job: PileJob,
    cheap: Labels,
    named: str,
    llm: Classifier,
    sample: int,
    promise: Promise,
    seed: int,
) -> Agreed:
    """Ask an LLM about a sample, certify the agreement, and ask about the rest only.

    Args:
        job: of the pile, which knows the LLM.
        cheap: the labels that are kept where they agree.
        named: name of the LLM in the job.
        llm: the same.
        sample: how many rows it is asked about first.
        promise: what is to be certified.
        seed: of the sample.

    Raises:
        InputError: the classes differ.
    """
    if set(llm.labels) != set(cheap.classes):
        raise InputError(
            f"--agree-with labels with {', '.join(llm.labels)}, --with with "
            f"{', '.join(cheap.classes)}: they cannot agree."
        )
    rows = job.pile.rows
    drawn = np.sort(uniform_draw(rows, min(sample, rows), seed).rows)
    first = job.ask(named, drawn)
    order = np.array([cheap.classes.index(name) for name in llm.labels] + [-1])
    said = order[first.labels.astype(np.int64)]
    certificate = certify_agreement(
        cheap.confidence,
        cheap.confidence[drawn],
        cheap.labels[drawn] == said[drawn],
        agreement=promise.target,
        level=promise.level,
    )
    kept = np.nan_to_num(cheap.confidence, nan=-np.inf) >= certificate.threshold
    kept[drawn] = False
    rest = np.flatnonzero(~kept)
    # The sample's answers are in the journal: no row is paid twice.
    second = job.ask(named, rest)
    labels, confidence = cheap.labels.copy(), cheap.confidence.copy()
    table = cheap.probabilities.copy()
    labels[rest] = order[second.labels.astype(np.int64)][rest]
    confidence[rest] = np.where(labels[rest] < 0, np.nan, second.confidence[rest])
    table[rest] = second.probabilities[rest][:, [llm.labels.index(c) for c in cheap.classes]]
    status = np.where(kept, KEPT, ASKED).tolist()
    alone = None if second.cost is None or not len(rest) else second.cost / len(rest) * rows
    whole = Labels(cheap.classes, labels, confidence, table)
    return Agreed(whole, status, certificate, len(rest), job.paid, alone)


def agreement_record(done: Agreed, pile: Pile, llm: str, members: Sequence[str]) -> dict[str, Any]:
    """Return an agreement's certificate as JSON values, with what was saved."""
    certificate = done.certificate
    record = {name: value for name, value in asdict(certificate).items() if name != "threshold"}
    kept = done.status.count(KEPT)
    return {
        "kind": "agreement",
        "sentence": (
            f"{certificate.share:.1%} of {pile.rows:,} rows of {pile.source.file} keep the label "
            f"of {', '.join(members)}; all labels agree with those of {llm} alone on at least "
            f"{certificate.target:.1%} of the rows, guaranteed at {certificate.level:.0%} "
            f"({certificate.checked} sampled texts). {llm} was asked about {done.asked:,} rows."
        ),
        **record,
        "threshold": certificate.threshold if certificate.accepted else None,
        "paid_usd": done.paid,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pile": {
            "file": pile.source.file,
            "rows": pile.rows,
            "fingerprint": pile.fingerprint,
            "duplicates": pile.duplicates,
        },
        "classifiers": list(members),
        "agrees_with": llm,
        "savings": {
            "rows_kept": kept,
            "rows_asked": done.asked,
            "paid_usd": done.paid,
            "llm_alone_usd": done.llm_alone,
        },
        "method": "risk-controlling set; exact unconditional hypergeometric test",
        "assumes": [
            "The LLM would say the same again; agreement with it says nothing about what is right.",
            "A row without an answer of the LLM counts as not agreed.",
        ],
    }


def plan(
    confidence: NDArray[np.float64], accuracy: float, targets: Sequence[float], level: float
) -> list[dict[str, float]]:
    """Return which share how many checks certify, by simulation under a guessed accuracy.

    Errors are drawn in proportion to 1 − confidence + .035, scaled to the guess; each figure is the
    mean of 60 draws. The confidences are those of the pile, or evenly spread where unknown.
    """
    known = np.nan_to_num(confidence, nan=0.0)
    if len(known) > 20_000:
        known = known[uniform_draw(len(known), 20_000, 0).rows]
    chance = 1.035 - known
    for _ in range(20):  # clipping lowers the mean
        chance = np.minimum(0.95, chance * (1 - accuracy) / max(1e-12, chance.mean()))
    rows = []
    for checks in (50, 100, 200, 300, 500, 1000):
        if checks > len(known):
            break
        entry: dict[str, float] = {"checks": checks}
        for target in targets:
            shares = []
            for seed in range(60):
                random = np.random.default_rng(seed)
                drawn = random.choice(len(known), checks, replace=False)
                correct = random.random(checks) >= chance[drawn]
                found = certify(known, known[drawn], correct, accuracy=target, level=level)
                shares.append(found.share)
            entry[f"{target:g}"] = round(float(np.mean(shares)), 3)
        rows.append(entry)
    return rows
