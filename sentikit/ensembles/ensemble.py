"""Ensembles: recorded runs over the same texts, aligned row by row, and their scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.alignment import merged_gold
from sentikit.comparison.bootstrap import Resampling, estimate_pair, estimate_run
from sentikit.comparison.counts import count_cells
from sentikit.comparison.results import Estimate
from sentikit.datasets.examples import Examples, class_names, strings
from sentikit.datasets.labels import scheme_for_classes
from sentikit.errors import InputError
from sentikit.metrics import metrics_for
from sentikit.registry import default_registry
from sentikit.runs.alignment import align_all
from sentikit.runs.reading import read_run
from sentikit.runs.table import RunTable
from sentikit.scoring import Scores, score, score_by_source

#: A run's folder, a results file, PATH#encoder, or a table of rows.
Recorded: TypeAlias = str | Path | RunTable


@dataclass(frozen=True)
class Ensemble:
    """Runs over the same texts, with rows and classes in the same order; unknown gold is -1."""

    examples: Examples
    classes: tuple[str, ...]
    gold: NDArray[np.int64]
    members: tuple[RunTable, ...]

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def has_text(self) -> NDArray[np.bool_]:
        """Whether each row has a text, (rows,); true for files with only ids."""
        if not any(member.has_texts for member in self.members):
            return np.ones(len(self), bool)
        texts = self.examples.values("text")
        return np.fromiter((bool(text.strip()) for text in texts), bool, len(self))

    @property
    def scored(self) -> NDArray[np.int64]:
        """The rows with a gold label."""
        return np.flatnonzero(self.gold >= 0)

    @property
    def ordered(self) -> bool:
        return any(member.ordered for member in self.members)


def gather(tables: Sequence[RunTable]) -> Ensemble:
    """Align runs; refuse different texts, classes or gold labels.

    The first run with texts sets the order of rows, the first with ordered classes that of classes.
    Recorded answers for rows without text are dropped.
    """
    names = [table.name for table in tables]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice. Give different runs.")
    first = next((table for table in tables if table.has_texts), tables[0])
    known = next((table for table in tables if table.ordered), first)
    members = []
    for table in tables:
        by_id = not (table.has_texts and first.has_texts)
        rows = align_all(first.examples, table.examples, (first.name, table.name), by_id)
        if len(table) != len(first):
            align_all(table.examples, first.examples, (table.name, first.name), by_id)
        members.append(table.select(rows).in_classes(known.classes, known.name))
    gold = merged_gold(first.examples, known.classes, [(run.name, run.gold) for run in members])
    labels = class_names(gold, known.classes)
    examples = first.examples.in_order().replace_column("label", labels)
    sources = next((m.examples.sources for m in members if any(m.examples.sources)), None)
    if sources is not None:
        examples = examples.replace_column("source", strings(sources))
    found = Ensemble(examples, known.classes, gold, tuple(members))
    answered = tuple(member.without_answers(~found.has_text) for member in members)
    return dataclasses.replace(found, members=answered)


def gather_runs(runs: Sequence[Recorded]) -> Ensemble:
    """Read runs and align them."""
    return gather([run if isinstance(run, RunTable) else read_run(run) for run in runs])


@dataclass(frozen=True)
class EnsembleScores:
    """Scores of an ensemble and of its members; empty without gold labels.

    Gains are the differences of its macro-F1 from each member's, on the same resamples.
    """

    scores: Scores | None = None
    by_source: Mapping[str, Scores] = field(default_factory=dict)
    macro_f1: Estimate | None = None
    members: Mapping[str, Estimate] = field(default_factory=dict)
    gains: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        found = dataclasses.asdict(self)
        return {"overall": found.pop("scores"), **found}


def score_ensemble(
    ensemble: Ensemble,
    labels: NDArray[np.int64],
    members: Mapping[str, RunTable],
    resampling: Resampling,
) -> EnsembleScores:
    """Score an ensemble's answers, (rows,), and its members that answered all rows."""
    rows, classes = ensemble.scored, ensemble.classes
    if not len(rows):
        return EnsembleScores()
    gold, own = ensemble.gold[rows], labels[rows]
    singles, gains = {}, {}
    for name, member in members.items():
        found = member.answers.labels[rows]
        cells = count_cells(gold, [found], len(classes))
        singles[name] = estimate_run(cells, resampling).macro_f1
        both = count_cells(gold, [found, own], len(classes))
        gains[name] = estimate_pair(both, resampling).macro_f1
    scheme = scheme_for_classes(classes, ordered=ensemble.ordered)
    metrics = metrics_for(scheme, default_registry())
    sources = ensemble.examples.select(rows).sources
    return EnsembleScores(
        score(gold, own, classes, metrics=metrics),
        score_by_source(gold, own, sources, classes, metrics=metrics),
        estimate_run(count_cells(gold, [own], len(classes)), resampling).macro_f1,
        singles,
        gains,
    )
