"""A comparison as CSV: a row for each run and source, or for each difference."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from sentikit.comparison.results import (
    Comparison,
    Difference,
    Estimate,
    Estimates,
    RunFindings,
    Test,
)
from sentikit.scoring import Scores

#: What the column `source` says of all examples together.
ALL = "all"


def runs_to_csv(comparison: Comparison) -> str:
    """Return a row for each run and source; `all` stands for all examples."""
    return _csv([row for run in comparison.runs for row in _run_rows(run)])


def differences_to_csv(comparison: Comparison) -> str:
    """Return a row for each difference."""
    return _csv([_difference(found) for found in comparison.differences])


def _run_rows(run: RunFindings) -> Iterator[dict[str, Any]]:
    yield _row(run, ALL, run.scores, run.estimates) | {
        "training_usd": run.cost.training,
        "usd_per_1000": run.cost.per_1000,
        "total_usd": run.cost.total,
        "usd_per_f1_point": run.cost.per_f1_point,
        "usd_per_f1_point_with_inference": run.cost.per_f1_point_with_inference,
    }
    for name, scores in run.by_source.items():
        yield _row(run, name, scores, run.estimates_by_source[name])


def _row(run: RunFindings, source: str, scores: Scores, estimates: Estimates) -> dict[str, Any]:
    row = {"run": run.name, "source": source, "examples": scores.examples}
    row |= {"invalid": scores.invalid}
    row |= _estimate("macro_f1", estimates.macro_f1) | _estimate("accuracy", estimates.accuracy)
    for name, own in scores.per_class.items():
        row |= {
            f"precision {name}": own.precision,
            f"recall {name}": own.recall,
            f"f1 {name}": own.f1,
            f"support {name}": own.support,
        }
    return row | {"ece": scores.calibration.ece if scores.calibration else None}


def _difference(found: Difference) -> dict[str, Any]:
    (both, first), (second, neither) = found.contingency
    row: dict[str, Any] = {"first": found.first, "second": found.second}
    row |= _estimate("macro_f1", found.macro_f1) | _estimate("accuracy", found.accuracy)
    row |= {"both_right": both, "first_alone_right": first}
    row |= {"second_alone_right": second, "both_wrong": neither}
    row |= _test("mcnemar", found.mcnemar) | _test("permutation", found.permutation)
    row |= _test("bootstrap", found.bootstrap)
    return row | {"kappa": found.kappa, "agreement": found.agreement}


def _estimate(name: str, estimate: Estimate) -> dict[str, float]:
    return {
        name: estimate.value,
        f"{name}_low": estimate.percentile.low,
        f"{name}_high": estimate.percentile.high,
        f"{name}_bca_low": estimate.bca.low,
        f"{name}_bca_high": estimate.bca.high,
    }


def _test(name: str, test: Test) -> dict[str, float]:
    return {
        f"{name}_p": test.p,
        f"{name}_holm": test.holm,
        f"{name}_bh": test.benjamini_hochberg,
    }


def _csv(rows: list[dict[str, Any]]) -> str:
    """Write rows; the first has all columns."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
