"""Certificates, estimates and the monitor on the study's recorded rows, by resampling.

    python benchmarks/assurance.py [--resamples 1000] [--only certificate,agreement,...]

Every figure is a mean over resamples with fixed seeds. Design choices (starts, steps, strata, bets,
the rule that combines members) were made on `validation-with-electra-predictions.csv`, not on the
rows below. Violations of a guarantee are counted with the gold labels of the pile.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sentikit.plugins.checked_labels.certification import plan
from sentikit.plugins.checked_labels.combination import FittedCombination, combine
from sentikit.plugins.checked_labels.draws import stratified_draw
from sklearn.metrics import f1_score

from sentikit.assurance.certificates import Monitor, certify, certify_agreement
from sentikit.assurance.estimates import estimate_accuracy, estimate_shares

#: The study's files: a folder named by SENTIKIT_STUDY_DATA, or ./data.
RECORDED = Path(os.environ.get("SENTIKIT_STUDY_DATA", "data")) / "recorded"
CLASSES = ("negative", "neutral", "positive")
CHECKS = 300
ALPHA = 0.1


def rows_of(name: str) -> list[dict[str, str]]:
    with (RECORDED / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def labels_of(name: str, column: str = "prediction") -> NDArray[np.int64]:
    return np.array([CLASSES.index(row[column]) for row in rows_of(name)])


def probabilities_of(name: str) -> NDArray[np.float64]:
    return np.array([json.loads(row["probabilities"]) for row in rows_of(name)])


def one_hot(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.eye(len(CLASSES))[labels]


class Recorded:
    """The recorded test rows: gold labels, sources and the members' predictions."""

    def __init__(self) -> None:
        self.gold = labels_of("E7-G4O-ELFT", "classification")
        self.source = np.array([row["source"] for row in rows_of("E7-G4O-ELFT")])
        self.large = probabilities_of("E7-G4O-ELFT")
        self.mini = one_hot(labels_of("B3-G4OM"))
        self.gpt = one_hot(labels_of("B4-G4O"))
        self.tuned = labels_of("E12-G4OFT-M")


def certificates(
    probabilities: NDArray[np.float64],
    gold: NDArray[np.int64],
    resamples: int,
    checks: int = CHECKS,
    looks: int = 1,
) -> tuple[float, int]:
    """Return the mean certified share, and how often the guarantee was violated."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    share, broken = 0.0, 0
    for seed in range(resamples):
        drawn = np.random.default_rng(seed).choice(len(gold), checks, replace=False)
        bad = False
        for look in range(1, looks + 1):
            seen = drawn[: checks * look // looks]
            found = certify(
                confidence, confidence[seen], correct[seen], accuracy=1 - ALPHA, looks=looks
            )
            accepted = confidence >= found.threshold
            bad |= bool((~correct[accepted]).sum() > ALPHA * accepted.sum())
        share += found.share / resamples
        broken += bad
    return share, broken


def show_certificate(name: str, share: float, broken: int, resamples: int, goal: str) -> None:
    p = binomtest(broken, resamples, 0.1, alternative="greater").pvalue
    print(
        f"{name:<62} share {share:.3f} (goal {goal:>6})  "
        f"broken {broken / resamples:.3f} (p {p:.2f})"
    )


def certificate_rows(data: Recorded, resamples: int) -> None:
    both = combine([data.large, data.mini, data.gpt])
    for name, table, goal in (
        ("ELECTRA Large", data.large, "≥ .65"),
        ("+ GPT-4o mini and GPT-4o zero-shot, no other labels", both, "≥ .72"),
    ):
        show_certificate(name, *certificates(table, data.gold, resamples), resamples, goal)
        show_certificate(
            f"  {name}: 3 looks", *certificates(table, data.gold, resamples, looks=3), resamples, ""
        )
        for source in np.unique(data.source):
            own = data.source == source
            found = certificates(table[own], data.gold[own], resamples)
            show_certificate(f"  {name}: {source} alone", *found, resamples, "")
    order = np.random.default_rng(0).permutation(len(data.gold))
    fit, pile = order[: len(order) // 2], order[len(order) // 2 :]
    members = [data.large, data.mini, data.gpt]
    fitted = FittedCombination([member[fit] for member in members], data.gold[fit])
    table = fitted([member[pile] for member in members])
    found = certificates(table, data.gold[pile], resamples)
    show_certificate("+ both, fitted on 3,265 other labels", *found, resamples, "≥ .74")


def agreement_rows(data: Recorded, resamples: int) -> None:
    confidence, agrees = data.large.max(axis=1), data.large.argmax(axis=1) == data.tuned
    for target, goal in ((0.9, "≥ .88"), (0.95, "≥ .73"), (0.98, "≥ .52")):
        share, broken = 0.0, 0
        for seed in range(resamples):
            drawn = np.random.default_rng(seed).choice(len(agrees), CHECKS, replace=False)
            found = certify_agreement(
                confidence, confidence[drawn], agrees[drawn], agreement=target
            )
            kept = confidence >= found.threshold
            kept[drawn] = False
            share += found.share / resamples
            broken += bool((~agrees[kept]).sum() > (1 - target) * len(agrees))
        name = f"agreement {target} with fine-tuned GPT-4o: kept, net of the sample"
        show_certificate(name, share, broken, resamples, goal)


def bargain_rows(data: Recorded, resamples: int) -> None:
    """Show what PyPI's `bargain` keeps from the LLM at the same targets, in fewer draws."""
    from BARGAIN.models.AbstractModels import Oracle, Proxy
    from BARGAIN.process.BARGAIN_A import BARGAIN_A

    confidence, cheap = data.large.max(axis=1), data.large.argmax(axis=1)

    class Encoder(Proxy):  # type: ignore[misc]
        def proxy_func(self, record: str) -> tuple[int, float]:
            return int(cheap[int(record)]), float(confidence[int(record)])

    class LLM(Oracle):  # type: ignore[misc]
        def oracle_func(self, record: str, label: int) -> tuple[bool, int]:
            answer = int(data.tuned[int(record)])
            return answer == label, answer

    seeds = range(max(1, resamples // 10))
    for target in (0.9, 0.95, 0.98):
        share, broken = 0.0, 0
        for seed in seeds:
            arguments = {"target": target, "delta": 0.1, "verbose": False, "seed": seed}
            run = BARGAIN_A(Encoder(False, 1), LLM(False, 1), **arguments)
            records = [str(row) for row in range(len(cheap))]
            labels, asked = run.process(records, return_oracle_usage=True)
            share += (1 - np.mean(asked)) / len(seeds)
            broken += bool(np.mean(np.array(labels) == data.tuned) < target)
        name = f"bargain at agreement {target}: kept from fine-tuned GPT-4o"
        show_certificate(name, share, broken, len(seeds), "")


def share_rows(data: Recorded, resamples: int) -> None:
    piles = {"all": np.full(len(data.gold), True)}
    piles |= {source: data.source == source for source in np.unique(data.source)}
    for name, own in piles.items():
        gold, table = data.gold[own], data.large[own]
        truth = np.bincount(gold, minlength=3) / len(gold)
        widths, held = [], []
        for seed in range(resamples):
            drawn = np.random.default_rng(seed).choice(len(gold), CHECKS, replace=False)
            for estimate, true in zip(
                estimate_shares(table, table[drawn], gold[drawn]), truth, strict=True
            ):
                widths.append(estimate.high - estimate.low)
                held.append(estimate.low <= true <= estimate.high)
        print(
            f"class shares, {name:<12} width {np.mean(widths):.4f} (goal ≤ .064 overall)  "
            f"coverage {np.mean(held):.3f} (goal ≥ .94, sources ≥ .93)"
        )


def accuracy_rows(data: Recorded, resamples: int) -> None:
    # The combination's probability of the LLM's label.
    confidence = combine([data.large, one_hot(data.tuned)])[np.arange(len(data.gold)), data.tuned]
    truth = (data.tuned == data.gold).mean()
    macro = f1_score(data.gold, data.tuned, average="macro")
    results = []
    for seed in range(resamples):
        draw = stratified_draw(confidence, CHECKS, seed)
        accuracy, f1 = estimate_accuracy(
            data.tuned,
            confidence,
            draw.rows,
            data.gold[draw.rows],
            checked_weights=1 / draw.inclusion,
        )
        results.append(
            (
                accuracy.high - accuracy.low,
                accuracy.low <= truth <= accuracy.high,
                f1.high - f1.low,
                f1.low <= macro <= f1.high,
            )
        )
    width, held, f1_width, f1_held = np.mean(results, axis=0)
    print(
        f"accuracy of fine-tuned GPT-4o: width {width:.4f} (goal ≤ .062), coverage {held:.3f} "
        f"(goal ≥ .94); macro-F1: width {f1_width:.4f}, coverage {f1_held:.3f}"
    )


def monitor_rows(data: Recorded, resamples: int) -> None:
    confidence, correct = data.large.max(axis=1), data.large.argmax(axis=1) == data.gold
    first = data.source == "dynasent_r1"
    alarms, knowing, false, holding = [], [], 0, 0
    for seed in range(resamples):
        random = np.random.default_rng(seed)
        drawn = random.choice(np.flatnonzero(first), CHECKS, replace=False)
        found = certify(confidence[first], confidence[drawn], correct[drawn], accuracy=1 - ALPHA)
        if not found.accepted:
            continue
        moved = (data.source == "dynasent_r2") & (confidence >= found.threshold)
        stream = random.permutation(correct[moved])
        alarms.append(first_alarm(Monitor(ALPHA), stream))
        knowing.append(first_alarm(_knowing(float(1 - stream.mean())), stream))
        same = correct[first & (confidence >= found.threshold)]
        if 1 - same.mean() <= ALPHA:
            holding += 1
            false += np.isfinite(first_alarm(Monitor(ALPHA), random.permutation(same)))
    ratio = np.median(alarms) / np.median(knowing)
    print(
        f"monitor, R1's certificate on R2: median {np.median(alarms):.0f} checks, knowing bet "
        f"{np.median(knowing):.0f}, ratio {ratio:.3f} (goal ≤ 1.15); "
        f"false alarms {false / holding:.3f}"
    )


def _knowing(rate: float) -> Monitor:
    """Return a monitor that only bets on the true error rate."""
    monitor = Monitor(ALPHA)
    monitor._rates, monitor._logs = [max(rate, ALPHA + 1e-6)], [0.0]
    return monitor


def first_alarm(monitor: Monitor, stream: NDArray[np.bool_]) -> float:
    """Return the number of checks before the alarm; infinite without one."""
    for place, correct in enumerate(stream, 1):
        if monitor.update(bool(correct)):
            return place
    return float("inf")


def plan_rows(data: Recorded, resamples: int) -> None:
    """Compare the forecasts by true accuracy and by default guess with the actual share.

    The forecast's error curve was fitted on ELECTRA Base's and Large's validation predictions.
    """
    base = probabilities_of("E3-G4OM-EBFT")
    tables = {
        "ELECTRA Base": base,
        "ELECTRA Large": data.large,
        "+ both zero-shot LLMs": combine([data.large, data.mini, data.gpt]),
    }
    errors = []
    for name, table in tables.items():
        confidence, right = table.max(axis=1), table.argmax(axis=1) == data.gold
        known = plan(confidence, float(right.mean()), [0.85, 0.9], 0.9)
        guessed = plan(confidence, 0.82, [0.85, 0.9], 0.9)
        for row, other in zip(known, guessed, strict=True):
            for target in (0.85, 0.9):
                share = 0.0
                for seed in range(resamples // 10):
                    drawn = np.random.default_rng(seed).choice(
                        len(right), int(row["checks"]), False
                    )
                    found = certify(confidence, confidence[drawn], right[drawn], accuracy=target)
                    share += found.share / (resamples // 10)
                forecast = row[f"{target:g}"], other[f"{target:g}"]
                errors.append([abs(one - share) for one in forecast])
                if row["checks"] == CHECKS:
                    print(
                        f"plan, {name}, accuracy {target}: forecast {forecast[0]:.3f} "
                        f"({forecast[1]:.3f} at a guess of .82), reached {share:.3f}, "
                        f"ratio {forecast[0] / share:.2f}"
                    )
    known_error, guess_error = np.mean(errors, axis=0)
    print(
        f"plan: mean error of the forecast {known_error:.3f}, at a guess of .82 {guess_error:.3f}"
    )


PARTS = {
    "plan": plan_rows,
    "certificate": certificate_rows,
    "agreement": agreement_rows,
    "bargain": bargain_rows,
    "shares": share_rows,
    "accuracy": accuracy_rows,
    "monitor": monitor_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    data = Recorded()
    for name in options.only.split(","):
        began = time.monotonic()
        PARTS[name](data, options.resamples)
        print(f"  ({name}: {time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
