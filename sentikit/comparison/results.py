"""Results of a comparison: scores, shares and differences as fractions, money in USD."""

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
        value: on the examples as they are.
        percentile: the percentile interval.
        bca: the bias-corrected and accelerated interval (Efron 1987); equal to the percentile
            interval where resampling never changes the value.
    """

    value: float
    percentile: Interval
    bca: Interval


@dataclass(frozen=True)
class Estimates:
    """Macro-F1, accuracy and the metrics of plugins, by name, with intervals."""

    macro_f1: Estimate
    accuracy: Estimate
    metrics: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class ChangedDecisions:
    """Answers that an LLM changed to the encoder's when shown its prediction.

    Attributes:
        against: the run of the LLM without the encoder.
        right: changed to the gold label.
        wrong: changed to another one.
    """

    against: str
    right: int
    wrong: int


@dataclass(frozen=True)
class Partnership:
    """How an LLM uses the encoder's prediction that it was shown.

    Attributes:
        rows: examples with a prediction of the encoder.
        follow_rate: share of them where the LLM answered the encoder's label.
        follow_rate_right: the same where the encoder was right; None if it never was.
        follow_rate_wrong: the same where it was wrong; None if it never was.
        discrimination_gap: the former less the latter; None if either is.
        changed: against runs of the LLM alone.
    """

    rows: int
    follow_rate: float
    follow_rate_right: float | None
    follow_rate_wrong: float | None
    discrimination_gap: float | None
    changed: tuple[ChangedDecisions, ...] = ()


@dataclass(frozen=True)
class RunCost:
    """What a run costs in USD; None where unknown.

    Attributes:
        training: of all it was trained from, its encoder included.
        training_basis: where the figure comes from, in words.
        per_1000: inference of 1,000 texts.
        per_1000_basis: where the figure comes from, in words.
        total: training, and inference of the compared examples.
        per_f1_point: training ÷ (100 x macro-F1), as the study defines it.
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
        kind: of the manifest (train, prompt, …), ``file`` or ``encoder`` (recorded inside another).
        scores: of all examples.
        by_source: scores of each source.
        estimates: intervals of all examples.
        estimates_by_source: intervals of each source.
        partnership: for an augmented run.
        cost: in USD.
        on_front: whether no other run is both cheaper and better; None without a known cost.
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
    """Return the run with the highest macro-F1, of equals the one with the first name."""
    return min(findings, key=lambda run: (-run.scores.macro_f1, run.name))


@dataclass(frozen=True)
class Test:
    """A p-value, alone and adjusted over all differences of the comparison.

    Attributes:
        p: two-sided; a resampled one is (k + 1) / (B + 1), never 0.
        holm: adjusted by Holm (1979): family-wise error rate.
        benjamini_hochberg: adjusted by Benjamini and Hochberg (1995): false discovery rate.
    """

    __test__ = False  # pytest takes it for tests otherwise

    p: float
    holm: float
    benjamini_hochberg: float


@dataclass(frozen=True)
class MetricDifference:
    """A difference in a plugin's metric, `second` less `first`.

    Attributes:
        difference: with its intervals.
        permutation: paired permutation test, adjusted over the differences in this metric.
    """

    difference: Estimate
    permutation: Test


@dataclass(frozen=True)
class PluginMetric:
    """A metric that a plugin brings.

    Attributes:
        name: its key in ``metrics``.
        title: the head of its column.
        higher_is_better: whether more is better.
    """

    name: str
    title: str
    higher_is_better: bool


@dataclass(frozen=True)
class Difference:
    """Two runs on the same examples; differences are `second` less `first`.

    Attributes:
        first: a run's name; the baseline where there is one.
        second: another's.
        macro_f1: difference of macro-F1, examples resampled for both runs together.
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
    """Cochran's Q: whether all runs are equally accurate (Cochran 1950)."""

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
    """Seeds or rounds of one set-up.

    Attributes:
        name: what its runs share.
        runs: their names.
        macro_f1: over the runs.
        accuracy: over the runs.
    """

    name: str
    runs: tuple[str, ...]
    macro_f1: Spread
    accuracy: Spread


@dataclass(frozen=True)
class BreakEven:
    """The number of texts from which one set-up is cheaper than another.

    Attributes:
        cheaper_before: costs less up to `texts` (less training, dearer answers).
        cheaper_after: costs less from there on.
        texts: labelled texts at which both cost the same.
    """

    cheaper_before: str
    cheaper_after: str
    texts: float


@dataclass(frozen=True)
class SampleSize:
    """The number of test texts that tells two set-ups apart.

    Attributes:
        first: a run's name.
        second: another's.
        macro_f1: texts for a difference of macro-F1, from the bootstrap's standard error.
        accuracy: texts for a difference of accuracy, by McNemar's test (Connor 1987).
    """

    first: str
    second: str
    macro_f1: int
    accuracy: int


@dataclass(frozen=True)
class SampleSizes:
    """Test texts that a difference of `delta` takes.

    Attributes:
        delta: the difference to be seen, a fraction.
        alpha: error of the first kind, two-sided.
        power: chance to see it.
        pairs: for each pair of runs.
    """

    delta: float
    alpha: float
    power: float
    pairs: tuple[SampleSize, ...]


@dataclass(frozen=True)
class Advice:
    """The run to use.

    Attributes:
        run: its name.
        sentence: the advice with its evidence.
    """

    run: str
    sentence: str


@dataclass(frozen=True)
class Findings:
    """The findings of a comparison, without its rows.

    Attributes:
        dataset: what the examples are called, or "".
        examples: how many were compared.
        classes: the labels.
        sources: source to its examples.
        runs: in the order given.
        baseline: a run's name, or None where all pairs are compared.
        differences: the baseline to each other run, or all pairs.
        cochran_q: for three runs or more.
        groups: seeds and rounds of one set-up.
        break_even: where one set-up overtakes another in cost.
        sample_sizes: if asked for.
        advice: which run to use.
        resamples: of each bootstrap and permutation test.
        seed: of the random numbers.
        confidence: of the intervals.
        notes: sentences on what a reader should know.
        metrics: of plugins.
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
        """The confidence as people write it: 95%, 99.5%."""
        return f"{self.confidence * 100:g}%"

    def run(self, name: str) -> RunFindings:
        """Return the run of that name."""
        return next(run for run in self.runs if run.name == name)

    def difference(self, first: str, second: str) -> Difference:
        """Return the difference between two runs, in the order the comparison has them."""
        return next(d for d in self.differences if {d.first, d.second} == {first, second})

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as docs/compare.schema.json describes them."""
        names = [found.name for found in fields(Findings)]
        return {"layout": LAYOUT} | {name: _plain(getattr(self, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
