"""Certification of a labelled pile: matching of checked texts, guarantees, certificates as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit import Certificate, Classifier, InputError, certify, certify_agreement
from sentikit.extension import Labels, quoted

from .checked import Check, CheckedFile
from .pile import Pile
from .pile_job import PileJob

#: A certificate needs at least so many checks.
LEAST_CHECKS = 30
#: Error rates of the checker for which a certificate states its guarantee too.
CHECKER_ERRORS = (0.01, 0.03, 0.05)
#: Confidences kept for the comparison with a later pile.
_REFERENCE = 2000
#: Numbers of checks that `plan` simulates, and draws for each.
_PLANNED, _DRAWS = (50, 100, 200, 300, 500, 1000), 60
#: Most rows that it simulates, and the numbers of checks to name once some are made.
_MOST_PLANNED, _MORE = 20_000, (100, 200, 300, 500, 1000, 2000, 5000)


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


def matched(checked: CheckedFile, pile: Pile) -> Matched:
    """Find the checked texts in the pile; refuse those that cannot certify.

    Raises:
        InputError: there are too few checks, the draw was not uniform, the pile has changed, a
            text is not in the pile, or a conflict is open.
    """
    checks, name = checked.checks(), str(checked.path)
    if len(checks) < LEAST_CHECKS:
        raise InputError(
            f"{name} holds {len(checks)} checks; a certificate needs at least {LEAST_CHECKS}, and "
            "some hundreds to certify much. See: sentikit label FILE --with X --plan"
        )
    if undrawn := checked.undrawn():
        row = "no row" if undrawn[0].row is None else f"row {undrawn[0].row}"
        raise InputError(
            f"{name} holds {len(undrawn)} answers about rows that were not drawn, such as {row} "
            f"({quoted(undrawn[0].text)}), so it certifies nothing. Remove them, or draw again "
            f"with: sentikit annotate {pile.source.typed} --size N"
        )
    if not checked.is_uniform:
        raise InputError(
            f"{name} was not drawn uniformly ({checked.draw.get('design', 'unequal inclusion')}), "
            "so it certifies nothing. sentikit estimate weighs it; for a certificate draw with: "
            f"sentikit annotate {pile.source.typed} --size N"
        )
    drawn_from = checked.draw.get("pile")
    if drawn_from is not None and drawn_from != pile.fingerprint:
        raise InputError(
            f"{pile.source.typed} has changed since the texts of {name} were drawn from it "
            f"({checked.draw.get('rows', '?'):,} rows then, {pile.rows:,} now). Certify the "
            "earlier file, or draw again."
        )
    rows = pile.rows_of(checks)
    if "drawn" in checked.draw and not np.isin(rows, checked.draw["drawn"]).all():
        raise InputError(
            f"{name} holds texts of rows of {pile.source.typed} that were not drawn, so it "
            "certifies nothing. Draw again."
        )
    return Matched(checked, checks, rows)


def describe_task(predicted: NDArray[np.int16], truth: NDArray[np.int64], target: float) -> str:
    """Describe what the checked texts alone say about a target, before the pile is labelled."""
    from scipy.stats import beta

    n, wrong = len(truth), int((predicted != truth).sum())
    error, limit = wrong / n, 1 - target
    line = f"On {n} checked texts {wrong} labels are wrong ({error:.1%})."
    if error <= limit + 1e-9:  # 1 - 0.8 is less than 0.2
        return line + f" That meets accuracy {target:g} without leaving out any row."
    needed = least_abstention(error, limit)
    surely = least_abstention(float(beta.ppf(0.05, wrong, n - wrong + 1)), limit)
    line += (
        f" For accuracy {target:g} at least {needed:.0%} of the rows must be left out, however "
        "good the confidence is"
    )
    return line + (f" (at least {surely:.0%}, at level 0.95)." if surely > 0 else ".")


def least_abstention(base_error: float, limit: float) -> float:
    """Return the least share to abstain on to reach an error limit: (μ − α)/(1 − α), at least 0.

    It holds for any confidence: abstaining on a row removes at most one wrong label
    (arXiv 2606.29054).
    """
    return max(0.0, (base_error - limit) / (1 - limit))


def describe_need(
    confidence: NDArray[np.float64],
    correct: NDArray[np.bool_],
    rows: int,
    target: float,
    level: float,
) -> str:
    """Forecast the certified share of a pile of `rows` for these and more checks, by `plan`."""
    checks = len(correct)
    accuracy = (int(correct.sum()) + 0.5) / (checks + 1)
    pile = np.resize(confidence, min(rows, _MOST_PLANNED))
    numbers = [checks, *(more for more in _MORE if more > 1.2 * checks)][:3]
    forecasts = [
        f"{row['checks']:,} checks {row[f'{target:g}']:.0%}"
        for row in plan(pile, accuracy, [target], level, numbers)
    ]
    return f"Forecast of the share that is certified: {', '.join(forecasts)}."


def fingerprint(description: Any) -> str:
    """Return a digest of JSON values, for example of a classifier's identity."""
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Labelling:
    """The members that labelled a pile, and the labels that fitted their combination."""

    members: Mapping[str, Classifier]
    fitted_on: CheckedFile | None = None

    @property
    def identity(self) -> str:
        """The identity of members and combination."""
        described: dict[str, Any] = {name: c.describe() for name, c in self.members.items()}
        if self.fitted_on is not None:
            described["fitted on"] = self.fitted_on.fingerprint()
        return fingerprint(described)

    @property
    def combination(self) -> str | None:
        """A description of how the members' answers become one confidence."""
        if len(self.members) < 2:
            return None
        if self.fitted_on is None:
            return "product of probabilities, fixed beforehand"
        labels = sum(check.label is not None for check in self.fitted_on.checks())
        return (
            f"multinomial logistic regression fitted on the {labels:,} labels of "
            f"{self.fitted_on.path} ({self.fitted_on.fingerprint()}), none of them checked texts"
        )


def refuse_spent_labels(fitted_on: CheckedFile, found: Matched | None) -> None:
    """Refuse labels for fitting that are also used to certify.

    Raises:
        InputError: a text is in both files.
    """
    texts = set() if found is None else {check.text for check in found.checks}
    both = [check.text for check in fitted_on.checks() if check.text in texts]
    if both and found is not None:
        raise InputError(
            f"{len(both)} texts of --fit {fitted_on.path} are in {found.file.path} too. Labels "
            "that a combination is fitted on certify nothing: check other texts, or fit on others."
        )


def certifying_look(
    found: Matched, pile: Pile, labelling: Labelling, accuracy: float, level: float
) -> dict[str, Any]:
    """Return the entry of a look in the ledger of a checked file."""
    return {
        "pile": pile.fingerprint,
        "classifier": labelling.identity,
        "kind": "accuracy",
        "target": accuracy,
        "level": level,
        "checked": found.file.fingerprint(),
    }


def certified(
    pile: Pile,
    job: PileJob,
    labels: Labels,
    labelling: Labelling,
    found: Matched,
    accuracy: float,
    level: float,
    looks: int,
) -> tuple[Certificate, dict[str, Any]]:
    """Certify labels; return the certificate, also as JSON values.

    `looks` are those that the ledger plans. A checker who errs on e of the texts
    hides at most that share of wrong labels, so certifying accuracy + e answers for it in the worst
    case.
    """
    correct = labels.labels[found.rows] == found.truth(labels.classes)
    drawn = labels.confidence[found.rows]

    def at(target: float) -> Certificate:
        return certify(labels.confidence, drawn, correct, accuracy=target, level=level, looks=looks)

    certificate = at(accuracy)
    errs = {
        f"{rate:g}": at(accuracy + rate).share if accuracy + rate < 1 else 0.0
        for rate in CHECKER_ERRORS
    }
    unsure = sum(check.label is None for check in found.checks)
    return certificate, {
        "kind": "accuracy",
        "sentence": _sentence(certificate, pile.source.typed),
        **_record(certificate, pile, job),
        "paid_usd_by_classifier": job.costs,
        "checked_file": {
            "file": str(found.file.path),
            "fingerprint": found.file.fingerprint(),
            "not_sure": unsure,
            "annotators": sorted({c.annotator for c in found.checks if c.annotator}),
        },
        "classifiers": {n: fingerprint([n, c.describe()]) for n, c in labelling.members.items()},
        "classifier": labelling.identity,
        "combination": labelling.combination,
        "share_if_the_checker_errs": errs,
        "method": certificate.method,
        "assumes": [
            "The checked texts were drawn uniformly from the pile, before anybody saw its labels.",
            "The people who checked them are right; the guarantee if they err is given separately.",
            "The guarantee is about this pile as a whole, not about groups of it or later texts.",
            f'"Not sure" counts as wrong ({unsure} such).',
        ],
        "reference": _reference(labels) | pile.language.reference(),
    }


def _sentence(certificate: Certificate, file: str) -> str:
    level, risk = f"{100 * certificate.level:.6g}%", f"{1 - certificate.target:.1%}"
    if not certificate.accepted:
        return (
            f"Nothing of {file} is certified at accuracy {certificate.target:g} and level {level} "
            f"with {certificate.checked} checks. Use a better classifier, add one with --with, "
            "check more new texts, or ask for less with --accuracy or --level."
        )
    return (
        f"{certificate.accepted:,} of {certificate.rows:,} rows of {file} "
        f"({certificate.share:.1%}) are labelled with at most {risk} errors, guaranteed at {level} "
        f"({certificate.checked} checked texts, {certificate.wrong} of the "
        f"{certificate.checked_accepted} accepted ones wrong)."
    )


def _record(certificate: Certificate, pile: Pile, job: PileJob) -> dict[str, Any]:
    """Return what every certificate states: numbers, pile, date and cost."""
    return asdict(certificate) | {
        "threshold": certificate.threshold if certificate.accepted else None,
        "paid_usd": job.paid,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pile": {
            "file": pile.source.typed,
            "rows": pile.rows,
            "fingerprint": pile.fingerprint,
            "duplicates": pile.duplicates,
        },
    }


def _reference(labels: Labels) -> dict[str, Any]:
    """Return the reference for a later pile: a sample of confidences."""
    known = labels.confidence[~np.isnan(labels.confidence)]
    sample = np.sort(np.random.default_rng(0).permutation(known)[:_REFERENCE])
    counts = np.bincount(labels.labels[labels.labels >= 0], minlength=len(labels.classes))
    return {
        "classes": list(labels.classes),
        "class_counts": counts.tolist(),
        "confidence": [round(float(value), 6) for value in sample],
    }


def agreed(
    pile: Pile,
    job: PileJob,
    cheap: Labels,
    members: Sequence[str],
    llm: tuple[str, Classifier],
    sample: int,
    agreement: float,
    level: float,
    seed: int,
) -> tuple[Labels, NDArray[np.bool_], dict[str, Any]]:
    """Ask an LLM about a sample, certify the agreement, and ask about the rest only.

    Returns:
        The labels: the cheap ones where they stand, else the LLM's; which rows keep them;
        and the certificate as JSON values, with what was saved.

    Raises:
        InputError: the classes differ.
    """
    name, classifier = llm
    if set(classifier.labels) != set(cheap.classes):
        raise InputError(
            f"--agree-with labels with {', '.join(classifier.labels)}, --with with "
            f"{', '.join(cheap.classes)}: they must have the same classes."
        )
    rows = pile.rows
    drawn = np.sort(np.random.default_rng(seed).permutation(rows)[:sample])
    order = np.array([cheap.classes.index(label) for label in classifier.labels] + [-1])
    llm_labels = order[job.ask(name, drawn).labels.labels.astype(np.int64)]
    certificate = certify_agreement(
        cheap.confidence,
        cheap.confidence[drawn],
        cheap.labels[drawn] == llm_labels[drawn],
        agreement=agreement,
        level=level,
    )
    kept = cheap.confidence >= certificate.threshold
    kept[drawn] = False
    rest = np.flatnonzero(~kept)
    # The sample's answers are in the journal: no row is paid twice.
    answers = job.ask(name, rest)
    labels, confidence = cheap.labels.copy(), cheap.confidence.copy()
    table = cheap.probabilities.copy()
    labels[rest] = order[answers.labels.labels.astype(np.int64)][rest]
    confidence[rest] = np.where(labels[rest] < 0, np.nan, answers.labels.confidence[rest])
    columns = [classifier.labels.index(label) for label in cheap.classes]
    table[rest] = answers.labels.probabilities[rest][:, columns]
    alone = None if answers.cost is None or not len(rest) else answers.cost / len(rest) * rows
    record = {
        "kind": "agreement",
        "sentence": (
            f"{certificate.share:.1%} of {rows:,} rows of {pile.source.typed} keep the label "
            f"of {', '.join(members)}; all labels agree with those of {name} alone on at least "
            f"{agreement:.1%} of the rows, guaranteed at {100 * level:.6g}% "
            f"({certificate.checked} sampled texts). {name} was asked about {len(rest):,} rows."
        ),
        **_record(certificate, pile, job),
        "classifiers": list(members),
        "agrees_with": name,
        "savings": {
            "rows_kept": int(kept.sum()),
            "rows_asked": len(rest),
            "paid_usd": job.paid,
            "llm_alone_usd": alone,
        },
        "method": "risk-controlling set; exact unconditional hypergeometric test",
        "assumes": [
            "The LLM would answer the same again; agreement says nothing about correctness.",
            "A row without an answer of the LLM counts as disagreement.",
        ],
    }
    return Labels(cheap.classes, labels, confidence, table), kept, record


def plan(
    confidence: NDArray[np.float64],
    accuracy: float,
    targets: Sequence[float],
    level: float,
    numbers: Sequence[int] = _PLANNED,
) -> list[dict[str, float]]:
    """Forecast the certified share for numbers of checks, by simulation with a guessed accuracy A.

    Errors are drawn with a chance in proportion to exp(−b·u), where u is a row's rank by
    confidence from 0, the least sure, to 1, and b = 3.7 + 17·(A − .83), scaled to the guess: the
    better a classifier, the steeper its errors fall. b was fitted on the study's validation
    predictions of two classifiers. Each figure is the mean of 60 draws.
    """
    from scipy.stats import rankdata

    known = np.nan_to_num(confidence, nan=0.0)
    if len(known) > _MOST_PLANNED:
        known = np.random.default_rng(0).permutation(known)[:_MOST_PLANNED]
    ranks = rankdata(known) / len(known)
    chance = np.exp(-min(6.0, max(1.0, 3.7 + 17 * (accuracy - 0.83))) * ranks)
    for _ in range(20):  # clipping lowers the mean
        chance = np.minimum(0.95, chance * (1 - accuracy) / chance.mean())
    rows = []
    for checks in (number for number in numbers if number <= len(known)):
        shares = np.zeros(len(targets))
        for seed in range(_DRAWS):
            random = np.random.default_rng(seed)
            drawn = random.choice(len(known), checks, replace=False)
            correct = random.random(checks) >= chance[drawn]
            for number, target in enumerate(targets):
                found = certify(known, known[drawn], correct, accuracy=target, level=level)
                shares[number] += found.share / _DRAWS
        named = {f"{t:g}": round(float(s), 3) for t, s in zip(targets, shares, strict=True)}
        rows.append({"checks": checks, **named})
    return rows
