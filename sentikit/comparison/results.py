"""The results of a comparison: scores, shares and differences as fractions, money in USD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sentikit.scoring import Scores

#: Version of the layout of `Findings.to_json`; docs/compare.schema.json describes it.
LAYOUT = 1


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A value and its bootstrap intervals.

    Attributes:
        value: on the examples.
        percentile: the percentile interval.
        bca: the bias-corrected and accelerated interval (Efron 1987); the percentile interval if
            resampling never changes the value.
    """

    value: float
    percentile: Interval
    bca: Interval

    def score_cells(self) -> tuple[str, str]:
        """Return a score and its interval as cells of a table."""
        return f"{self.value:.4f}", f"[{self.percentile.low:.4f}, {self.percentile.high:.4f}]"

    def gain_cell(self) -> str:
        """Return a difference with its interval, with signs."""
        # Adding 0 turns -0.0 into 0.0.
        value, low, high = (
            f"{round(number, 4) + 0.0:+.4f}"
            for number in (self.value, self.percentile.low, self.percentile.high)
        )
        return f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class Estimates:
    """Macro-F1, accuracy and the metrics of plugins, by name, with intervals."""

    macro_f1: Estimate
    accuracy: Estimate
    metrics: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class ChangedDecisions:
    """Answers that an LLM changed to the encoder's because it was shown the prediction."""

    #: The run of the LLM without the encoder.
    against: str
    #: Numbers of answers changed to the gold label, and to another one.
    right: int
    wrong: int


@dataclass(frozen=True)
class Partnership:
    """How an LLM uses the encoder's prediction that it was shown.

    Attributes:
        rows: number of examples with a prediction of the encoder.
        follow_rate: share of them where the LLM answered with the encoder's label.
        follow_rate_right: the same where the encoder was right; None if it never was.
        follow_rate_wrong: the same where it was wrong; None if it never was.
        discrimination_gap: follow_rate_right minus follow_rate_wrong; None if either is.
        changed: changes compared to runs of the LLM alone.
    """

    rows: int
    follow_rate: float
    follow_rate_right: float | None
    follow_rate_wrong: float | None
    discrimination_gap: float | None
    changed: tuple[ChangedDecisions, ...] = ()


@dataclass(frozen=True)
class RunCost:
    """The cost of a run in USD; None if unknown.

    Attributes:
        training: of everything that was trained for it, its encoder included.
        training_basis: the source of the figure, in words.
        per_1000: inference of 1,000 texts.
        per_1000_basis: the source of the figure, in words.
        total: training plus inference of the compared examples.
        per_f1_point: training ÷ (100 x macro-F1), as in the study.
        per_f1_point_with_inference: total ÷ (100 x macro-F1).
    """

    training: float | None
    training_basis: str
    per_1000: float | None
    per_1000_basis: str
    total: float | None
    per_f1_point: float | None
    per_f1_point_with_inference: float | None


@dataclass(frozen=True)
class RunFindings:
    """The scores and costs of a run.

    Attributes:
        name: short and unique.
        path: as the user gave it.
        kind: the manifest's (train, prompt, …), ``file``, or ``encoder`` (recorded inside a run).
        scores: on all examples.
        by_source: scores of each source.
        estimates: intervals on all examples.
        estimates_by_source: intervals of each source.
        partnership: how an augmented run uses its encoder; None for other runs.
        cost: in USD.
        on_front: whether it is on the Pareto front of cost and macro-F1; None if cost is unknown.
    """

    name: str
    path: str
    kind: str
    scores: Scores
    by_source: dict[str, Scores]
    estimates: Estimates
    estimates_by_source: dict[str, Estimates]
    partnership: Partnership | None
    cost: RunCost
    on_front: bool | None = None


def best_run(findings: Sequence[RunFindings]) -> RunFindings:
    """Return the run with the highest macro-F1; ties go to the first name."""
    return min(findings, key=lambda run: (-run.scores.macro_f1, run.name))


@dataclass(frozen=True)
class Test:
    """A p-value, unadjusted and adjusted over all differences of the comparison.

    Attributes:
        p: two-sided; a resampled one is (k + 1) / (B + 1), never 0.
        holm: adjusted for the family-wise error rate (Holm 1979).
        benjamini_hochberg: adjusted for the false discovery rate (Benjamini and Hochberg 1995).
    """

    __test__ = False  # keeps pytest from collecting it

    p: float
    holm: float
    benjamini_hochberg: float


@dataclass(frozen=True)
class MetricDifference:
    """A difference in a plugin's metric, `second` minus `first`."""

    difference: Estimate
    #: A paired permutation test, adjusted over the differences in this metric.
    permutation: Test


@dataclass(frozen=True)
class PluginMetric:
    """A metric of a plugin: its key in ``metrics`` and the header of its column."""

    name: str
    title: str
    higher_is_better: bool


@dataclass(frozen=True)
class Difference:
    """The difference between two runs on the same examples, `second` minus `first`.

    Attributes:
        first: a run's name; the baseline if there is one.
        second: the other run's name.
        macro_f1: difference of macro-F1, with the same resamples for both runs.
        accuracy: difference of accuracy.
        contingency: examples by `first` right, wrong (rows) and `second` right, wrong (columns).
        mcnemar: exact binomial test of the accuracies.
        permutation: paired permutation test of macro-F1.
        bootstrap: of macro-F1, from the resampled differences.
        kappa: Cohen's kappa between their labels.
        agreement: share of examples with equal labels.
        metrics: differences in the metrics of plugins, by name.
    """

    first: str
    second: str
    macro_f1: Estimate
    accuracy: Estimate
    contingency: tuple[tuple[int, int], tuple[int, int]]
    mcnemar: Test
    permutation: Test
    bootstrap: Test
    kappa: float
    agreement: float
    metrics: dict[str, MetricDifference] = field(default_factory=dict)


@dataclass(frozen=True)
class CochranQ:
    """Cochran's Q test that all runs are equally accurate (Cochran 1950)."""

    statistic: float
    degrees_of_freedom: int
    p: float


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Group:
    """Runs with the same settings and different seeds or rounds, by what their names share."""

    name: str
    runs: tuple[str, ...]
    macro_f1: Spread
    accuracy: Spread


@dataclass(frozen=True)
class BreakEven:
    """The number of texts from which one run is cheaper than another.

    Attributes:
        cheaper_before: the run that costs less below `texts` (less training, dearer answers).
        cheaper_after: the run that costs less above.
        texts: the number of texts at which both cost the same.
    """

    cheaper_before: str
    cheaper_after: str
    texts: float


@dataclass(frozen=True)
class SampleSize:
    """The number of test texts that can show a difference between two runs.

    For macro-F1 it follows from the bootstrap's standard error, for accuracy from McNemar's test
    (Connor 1987).
    """

    first: str
    second: str
    macro_f1: int
    accuracy: int


@dataclass(frozen=True)
class SampleSizes:
    """The numbers of test texts that can show a difference of `delta`.

    Attributes:
        delta: the difference, as a fraction.
        alpha: two-sided type I error rate.
        power: probability of finding the difference.
        pairs: for each pair of runs.
    """

    delta: float
    alpha: float
    power: float
    pairs: tuple[SampleSize, ...]


@dataclass(frozen=True)
class Advice:
    """The run to use, and a sentence with the evidence."""

    run: str
    sentence: str


@dataclass(frozen=True)
class Findings:
    """The findings of a comparison, without its rows.

    Attributes:
        dataset: the dataset's name and split, or "".
        examples: number of compared examples.
        classes: the labels.
        sources: source to its number of examples.
        runs: in the order given.
        baseline: a run's name, or None if all pairs are compared.
        differences: of each other run from the baseline, or of all pairs.
        cochran_q: for three runs or more.
        groups: runs with the same settings and different seeds.
        break_even: numbers of texts from which one run is cheaper than another.
        sample_sizes: if requested.
        advice: which run to use.
        resamples: number of resamples of each bootstrap and permutation test.
        seed: seed of the random numbers.
        confidence: confidence of the intervals.
        notes: sentences on limits of the comparison.
        metrics: the metrics of plugins.
    """

    dataset: str
    examples: int
    classes: tuple[str, ...]
    sources: dict[str, int]
    runs: tuple[RunFindings, ...]
    baseline: str | None
    differences: tuple[Difference, ...]
    cochran_q: CochranQ | None
    groups: tuple[Group, ...]
    break_even: tuple[BreakEven, ...]
    sample_sizes: SampleSizes | None
    advice: Advice
    resamples: int
    seed: int
    confidence: float
    notes: tuple[str, ...]
    metrics: tuple[PluginMetric, ...]

    @property
    def percent(self) -> str:
        """The confidence as a percentage, such as 95% or 99.5%."""
        return f"{self.confidence * 100:g}%"

    def run(self, name: str) -> RunFindings:
        return next(run for run in self.runs if run.name == name)

    def difference(self, first: str, second: str) -> Difference:
        """Return the difference between two runs, named in either order."""
        return next(d for d in self.differences if {d.first, d.second} == {first, second})

    def to_json(self) -> dict[str, Any]:
        """Return JSON values in the layout of docs/compare.schema.json."""
        names = [found.name for found in fields(Findings)]
        return {"layout": LAYOUT} | {name: _plain(getattr(self, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
