"""The writer of runs: manifest, predictions row by row, scores and costs."""

from __future__ import annotations

import contextlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from sentikit.chat import Usage
from sentikit.classifiers.classifier import Example
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.labels import scheme_for_classes
from sentikit.errors import SentikitError
from sentikit.files import atomic_writer, sync, write_json
from sentikit.keys import redacted
from sentikit.metrics import NamedMetric, metrics_for
from sentikit.registry import default_registry
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import (
    LabelledSplit,
    RunFolder,
    command_line,
    describe_split,
    now,
    versions,
)
from sentikit.scoring import Scores, score, score_by_source
from sentikit.stopping import Interrupted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Row:
    """A row of a job: the example, and its gold label, which the classifier does not see."""

    example: Example
    gold: str | None = None
    known_by_id: bool = False

    @property
    def has_text(self) -> bool:
        """Whether the row can be labelled: it has a text, or only ids are known."""
        return self.known_by_id or bool(self.example.text.strip())


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split, read in pieces at each iteration."""

    split: LabelledSplit

    def __iter__(self) -> Iterator[Row]:
        for identifier, text, gold, source, columns in self.split.examples.rows():
            example = Example(text, identifier, source, columns)
            yield Row(example, gold, not self.split.has_texts)


@dataclass(frozen=True)
class RunPlan:
    """The description of a run before it begins.

    Attributes:
        kind: train, prompt, evaluate, cascade, vote.
        recipe: the resolved recipe as plain values.
        recipe_text: the recipe as YAML, which can be run again.
        split: the split to label.
        manifest: further keys of the manifest.
        costs: USD by item paid before this run, such as for training an encoder; None if unknown.
    """

    kind: str
    recipe: Mapping[str, Any]
    recipe_text: str
    split: LabelledSplit
    manifest: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, float | None] = field(default_factory=dict)


class RowTotals:
    """Counts, tokens and costs of the rows of a job, in constant memory.

    Attributes:
        rows: rows so far.
        without_text: rows without text, which are not classified.
        answers: rows that an LLM answered.
        invalid: rows with a text but without a valid label, including failed ones.
        misread: invalid rows with an answer that contains no label.
        failed: rows for which the classifier or a member failed; trying again may help.
        repaired: rows whose second answer was valid.
        unmetered: rows with an answer whose usage was not reported.
        usage: reported tokens of all answers.
        cost: USD of all answers, cached or not; None once one is unknown.
        paid: USD of the answers that this job paid for; None once one is unknown.
    """

    def __init__(self) -> None:
        self.rows = self.answers = self.invalid = self.failed = self.repaired = 0
        self.unmetered = self.misread = self.without_text = 0
        self.usage = Usage()
        self.cost: float | None = 0.0
        self.paid: float | None = 0.0

    def add(self, prediction: Prediction, has_text: bool = True) -> None:
        self.rows += 1
        if not has_text:
            self.without_text += 1
            return
        self.answers += prediction.answer is not None
        self.invalid += prediction.label is None
        self.misread += prediction.label is None and prediction.error is None
        self.failed += prediction.error is not None
        self.repaired += prediction.first_answer is not None and prediction.label is not None
        self.unmetered += prediction.answer is not None and prediction.usage is None
        if prediction.error is None or prediction.cost:
            self.cost = _sum(self.cost, prediction.cost)
            self.paid = _sum(self.paid, prediction.paid)
        if prediction.usage is not None:
            self.usage += prediction.usage

    @property
    def texts(self) -> int:
        """Rows with a text to label."""
        return self.rows - self.without_text

    @property
    def asked(self) -> bool:
        return bool(self.answers or self.failed or self.cost != 0)

    def to_json(self) -> dict[str, Any]:
        saved = None if self.cost is None or self.paid is None else self.cost - self.paid
        return {
            "rows": self.rows,
            "without_text": self.without_text,
            "invalid": self.invalid,
            "failed": self.failed,
            "repaired": self.repaired,
            "answers_without_usage": self.unmetered,
            "usage": asdict(self.usage),
            "paid_usd": _rounded(self.paid),
            "saved_usd": _rounded(saved),
        }


class ScoredRows:
    """The gold and predicted labels of rows, in a few bytes each."""

    def __init__(self, classes: tuple[str, ...], metrics: Sequence[NamedMetric]) -> None:
        self._classes, self._metrics = classes, metrics
        self._numbers = {name: number for number, name in enumerate(classes)}
        self._gold, self._labels, self._sources = array("q"), array("q"), array("q")
        self._source_names: dict[str | None, int] = {}
        self._probabilities = array("d")

    def add(self, gold: str | None, source: str | None, prediction: Prediction) -> None:
        if gold is None:
            return
        self._gold.append(self._numbers[gold])
        self._labels.append(-1 if prediction.label is None else self._numbers[prediction.label])
        self._sources.append(self._source_names.setdefault(source, len(self._source_names)))
        known = prediction.probabilities
        self._probabilities.extend(
            [float("nan") if known is None else known.get(name, 0.0) for name in self._classes]
        )

    def scores(self) -> tuple[Scores | None, dict[str, Scores]]:
        """Return the scores overall and by source; None if no row has a gold label."""
        if not len(self._gold):
            return None, {}
        gold, labels = np.array(self._gold, np.int64), np.array(self._labels, np.int64)
        names = list(self._source_names)
        shares = np.array(self._probabilities, np.float64).reshape(-1, len(self._classes))
        sources = [names[number] for number in self._sources]
        by_source = score_by_source(gold, labels, sources, self._classes, shares, self._metrics)
        return score(gold, labels, self._classes, shares, self._metrics), by_source


@dataclass(frozen=True)
class FinishedRun:
    """The results of a run.

    Attributes:
        path: the run's folder; None if no run was written.
        dataset: name of the dataset.
        split: name of the labelled split.
        totals: counts, tokens and costs of the rows.
        scores: of the rows with a gold label; None if there are none.
        by_source: scores of each source.
        cost_usd: USD by item; None if a price is unknown.
        more: further keys of ``metrics.json``.
    """

    path: Path | None
    dataset: str
    split: str
    totals: RowTotals
    scores: Scores | None
    by_source: dict[str, Scores]
    cost_usd: dict[str, float | None]
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas table with the scores of all rows and of each source."""
        import pandas as pd

        scores = {} if self.scores is None else {"all": self.scores, **self.by_source}
        parts = ("examples", "macro_f1", "accuracy", "invalid")
        rows = [(name, *(getattr(own, part) for part in parts)) for name, own in scores.items()]
        return pd.DataFrame(rows, columns=["source", *parts])

    def _repr_html_(self) -> str:
        from markupsafe import escape

        name = escape(f"{self.path or self.dataset}, {self.split}")
        return f"<h4>{name}</h4>{self.to_frame().to_html(index=False, border=0)}"

    def metrics(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``; requires scores."""
        assert self.scores is not None
        totals = self.totals
        found: dict[str, Any] = {
            "split": self.split,
            "overall": self.scores.to_json(),
            "by_source": {name: own.to_json() for name, own in self.by_source.items()},
        }
        if "llm" in self.cost_usd:
            found["answers"] = {
                "rows": totals.rows,
                "without_text": totals.without_text,
                "invalid": totals.invalid,
                "invalid_rate": totals.invalid / max(1, totals.texts),
                "failed": totals.failed,
                "repaired": totals.repaired,
            }
        return found | dict(self.more)


class RunWriter:
    """Writes a run's folder; use as a context manager once the folder is locked.

    The predictions get their name when all rows are written, and the run its status ``finished``
    when everything is on disk. A run that ends otherwise records why, and keeps its rows as partial
    predictions.

    Args:
        run: the folder; None scores the rows without writing anything.
        plan: the description of the run.
    """

    def __init__(self, run: RunFolder | None, plan: RunPlan) -> None:
        self.run, self.plan = run, plan
        self.totals = RowTotals()
        classes = plan.split.classes
        scheme = scheme_for_classes(classes, ordered=plan.split.ordered)
        self._scored = ScoredRows(classes, metrics_for(scheme, default_registry()))
        self._exit = ExitStack()
        self._stream: IO[Any] | None = None
        self._begun = self._finished = False

    def begin(self, resume: bool, **manifest: Any) -> None:
        """Write the recipe and the manifest, before the first row.

        Args:
            resume: whether the run was begun before.
            **manifest: further keys of the manifest.
        """
        if self.run is None:
            return
        from sentikit.yaml_files import dump_yaml

        begun = {} if resume else {"kind": self.plan.kind, "started": now()}
        if not resume or self.run.manifest.get("recipe") != dict(self.plan.recipe):
            self.run.write_recipe(self.plan.recipe_text or dump_yaml(self.plan.recipe))
        split = self.plan.split
        fingerprint = split.examples.fingerprint()
        self.run.update_manifest(
            **begun,
            status=run_folder.RUNNING,
            recipe=dict(self.plan.recipe),
            command=command_line(),
            dataset=describe_split(split.dataset, split.split, len(split.examples), fingerprint),
            classes=list(split.classes),
            ordered=split.ordered,
            versions=versions(),
            **self.plan.manifest,
            **manifest,
        )
        self._begun = True

    def __enter__(self) -> Self:
        # Remove a killed process's temporary files; the journal has all paid answers.
        folder = self.run.path if self.run else None
        for half in folder.glob(f".{run_folder.PARTIAL}.*") if folder else ():
            half.unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Paid rows are kept, unless the disk failed.
        kept = error is None or isinstance(error, Interrupted | KeyboardInterrupt | SentikitError)
        with contextlib.suppress(SentikitError):
            self._exit.__exit__(*(None, None, None) if kept else (kind, error, traceback))
        if error is not None and self.run and self._begun and not self._finished:
            self.run.end(error)

    def add(self, example: Example, gold: str | None, prediction: Prediction, **more: Any) -> None:
        """Write a row; `more` are further keys."""
        self.totals.add(prediction, self.plan.split.has_text(example.text))
        self._scored.add(gold, example.source, prediction)
        if self.run is None:
            return
        if self._stream is None:
            path = self.run.path / run_folder.PARTIAL
            self._stream = self._exit.enter_context(atomic_writer(path))
        record = row_json(example, gold, prediction, self.plan.split.classes) | more
        self._stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    def add_split(self, predictions: Iterable[Prediction]) -> None:
        """Write all rows of the split with their predictions, in order."""
        for row, prediction in zip(SplitRows(self.plan.split), predictions, strict=True):
            self.add(row.example, row.gold, prediction)

    def finish(
        self,
        metrics: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        costs: Mapping[str, float | None] | None = None,
        **manifest: Any,
    ) -> FinishedRun:
        """Write scores, other files and the manifest, after all rows.

        Args:
            metrics: further keys of ``metrics.json``.
            files: JSON files of this kind of run, by name.
            costs: USD paid besides the rows' answers, by item; None if unknown.
            **manifest: further keys of the manifest.
        """
        self._exit.close()
        if self.run and self._stream is not None:
            os.replace(self.run.path / run_folder.PARTIAL, self.run.path / run_folder.PREDICTIONS)
            sync(self.run.path)
        scores, by_source = self._scored.scores()
        paid = {"llm": _rounded(self.totals.cost)} if self._asks else {}
        items = {name: _rounded(cost) for name, cost in (costs or {}).items() if cost != 0}
        cost_usd = {**paid, **items, **self.plan.costs}
        path, split = self.run.path if self.run else None, self.plan.split
        labelled = (split.dataset, split.split, self.totals)
        found = FinishedRun(path, *labelled, scores, by_source, cost_usd, metrics or {})
        if self.run:
            if scores is not None:
                write_json(self.run.path / run_folder.METRICS, found.metrics())
            for name, value in (files or {}).items():
                write_json(self.run.path / name, value)
            # Last, so that a finished run is complete.
            self.run.update_manifest(
                **(self.totals.to_json() if self.totals.rows else {}),
                **manifest,
                cost_usd=cost_usd,
                finished=now(),
                status=run_folder.FINISHED,
            )
        self._finished = True
        return found

    @property
    def _asks(self) -> bool:
        return self.totals.asked or self.plan.kind in ("prompt", "cascade")


def row_json(
    example: Example, gold: str | None, prediction: Prediction, classes: tuple[str, ...]
) -> dict[str, Any]:
    """Return a row of ``predictions.jsonl``.

    Every row has an id, a text, gold and predicted label, probabilities and a source. A row of an
    LLM also has ``answer``, the last answer as received; ``first_answer``, the invalid one before
    it; ``finish_reason``, ``rationale``, ``usage`` and ``cost`` of both; and ``encoder``, the
    adviser's prediction. A row of a cascade or vote has ``answered_by``, a failed row ``error``.
    """
    record: dict[str, Any] = {
        "id": example.id,
        "text": example.text,
        "gold": gold,
        "label": prediction.label,
        "probabilities": rounded(prediction.probabilities, classes),
        "source": example.source,
    }
    if prediction.answered_by is not None:
        record["answered_by"] = prediction.answered_by
    asked = prediction.answer is not None or prediction.usage is not None
    asked = asked or bool(prediction.cost)
    adviser = prediction.adviser
    if asked or adviser is not None or prediction.error is not None:
        record["answer"] = redacted(prediction.answer) if prediction.answer else prediction.answer
        record["usage"] = None if prediction.usage is None else asdict(prediction.usage)
        record["cost"] = prediction.cost if asked else None
        record["finish_reason"] = prediction.finish_reason
        record["encoder"] = None
    if adviser is not None and adviser.label is not None:
        record["encoder"] = {"label": adviser.label, "probabilities": adviser.probabilities}
    if prediction.rationale is not None:
        record["rationale"] = redacted(prediction.rationale)
    if prediction.first_answer is not None:
        record["first_answer"] = redacted(prediction.first_answer)
    if prediction.error is not None:
        record["error"] = redacted(prediction.error)
    return record


def rounded(
    probabilities: Mapping[str, float] | None, classes: tuple[str, ...]
) -> dict[str, float] | None:
    """Return probabilities as written in files: in the order of the classes, with six digits."""
    if probabilities is None:
        return None
    return {label: round(probabilities.get(label, 0.0), 6) for label in classes}


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 9)


def _sum(total: float | None, more: float | None) -> float | None:
    return None if total is None or more is None else total + more
