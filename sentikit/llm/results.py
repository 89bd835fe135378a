"""Writes the run of an LLM: manifest, predictions row by row, scores, costs."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from sentikit.files import atomic_writer, write_json
from sentikit.llm.answered_rows import RowTotals, row_json
from sentikit.llm.asking import PromptRow
from sentikit.llm.opinions import encoder_cost
from sentikit.llm.requests.loop import AnsweredQuestion
from sentikit.llm.split import Split
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import RunFolder
from sentikit.runs.manifest import command_line, describe_split, now, versions
from sentikit.scoring import Scores

if TYPE_CHECKING:
    from sentikit.llm.parts import PromptParts


@dataclass(frozen=True)
class FinishedPrompting:
    """What an LLM's run came to.

    Attributes:
        path: the run's folder.
        split: the split that was labelled.
        totals: counts, tokens and costs of the rows.
        scores: of the rows with a gold label; None where there are none.
        by_source: the same for each source.
        cost_usd: USD by item; None where a price is unknown.
    """

    path: Path
    split: str
    totals: RowTotals
    scores: Scores | None
    by_source: dict[str, Scores]
    cost_usd: dict[str, float | None]


def begin_run(
    run: RunFolder,
    parts: PromptParts,
    split: Split,
    resume: bool,
    run_id: str,
    limit: int | None,
) -> None:
    """Write what is known before the first question, at once: a kill leaves all of it or nothing.

    Args:
        run: the folder.
        parts: of the recipe.
        split: what is labelled.
        resume: whether the run was begun before.
        run_id: under which its answers are kept.
        limit: how many examples were asked for, or None.
    """
    begun = {}
    if not resume:
        run.write_recipe(parts.recipe.to_yaml())
        begun = {"kind": "prompt", "started": now()}
    run.update_manifest(
        **begun,
        run_id=run_id,
        limit=limit,
        status=run_folder.RUNNING,
        recipe=parts.recipe.values,
        command=command_line(),
        seed=parts.strategy_options.examples.seed,
        dataset=_described(parts, split),
        classes=list(split.classes),
        model=parts.llm.model,
        versions=versions(),
    )


class ResultWriter:
    """Takes answered rows in order and writes the predictions; use as a context manager.

    The file appears when all rows are there: a run that stops leaves none.

    Attributes:
        totals: what the rows come to so far.
    """

    def __init__(self, run: RunFolder, parts: PromptParts, split: Split) -> None:
        self._run, self._parts, self._split = run, parts, split
        self._exit = ExitStack()
        self._stream: IO[Any] | None = None
        self.totals = RowTotals(split.classes)

    def __enter__(self) -> Self:
        path = self._run.path / run_folder.PREDICTIONS
        self._stream = self._exit.enter_context(atomic_writer(path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.__exit__(kind, error, traceback)

    def add(self, answered: AnsweredQuestion[PromptRow]) -> None:
        """Write a row."""
        assert self._stream is not None
        record = json.dumps(row_json(answered), ensure_ascii=False, allow_nan=False)
        self._stream.write(record + "\n")
        self.totals.add(answered)

    def finish(self, **items: float | None) -> FinishedPrompting:
        """Write scores and manifest, once the predictions are there.

        Args:
            **items: USD of what was paid beside the rows' answers, by item; None if unknown.
        """
        totals, scored = self.totals, self.totals.scores()
        scores, by_source = scored if scored else (None, {})
        if scores is not None:
            metrics = self._metrics(scores, by_source)
            write_json(self._run.path / run_folder.METRICS, metrics)
        costs = self._costs(items)
        self._run.update_manifest(
            status=run_folder.FINISHED,
            finished=now(),
            rows=totals.rows,
            invalid=totals.invalid,
            failed=totals.failed,
            repaired=totals.repaired,
            usage=totals.usage.__dict__,
            answers_without_usage=totals.unmetered,
            cost_usd=costs,
            paid_usd=_rounded(totals.paid),
            saved_usd=_rounded(_difference(totals.cost, totals.paid)),
        )
        path, split = self._run.path, self._parts.split
        return FinishedPrompting(path, split, totals, scores, by_source, costs)

    def _metrics(self, scores: Scores, by_source: dict[str, Scores]) -> dict[str, Any]:
        totals = self.totals
        return {
            "split": self._parts.split,
            "overall": scores.to_json(),
            "by_source": {name: own.to_json() for name, own in by_source.items()},
            "answers": {
                "rows": totals.rows,
                "invalid": totals.invalid,
                "invalid_rate": totals.invalid / max(1, totals.rows),
                "failed": totals.failed,
                "repaired": totals.repaired,
            },
        }

    def _costs(self, items: dict[str, float | None]) -> dict[str, float | None]:
        """Return USD by item; the encoder that a prompt shows adds what its training cost.

        So does the fine-tuning of the model.
        """
        costs = {"llm": _rounded(self.totals.cost)}
        costs |= {name: _rounded(cost) for name, cost in items.items() if cost != 0}
        if self._parts.fine_tuned and self._parts.fine_tuned.cost is not None:
            costs |= {"fine_tuning": self._parts.fine_tuned.cost}
        if self._parts.strategy.needs().encoder:
            encoder = encoder_cost(self._parts.strategy_options.encoder)
            costs |= {"encoder": encoder} if encoder else {}
        return costs


def spent_usd(run: RunFolder) -> float:
    """Return the USD that a finished run's calls were billed, probing the server included.

    Answers found in the cache cost nothing; neither does, here, a call whose price is unknown.
    """
    manifest = run.manifest
    probing = manifest.get("cost_usd", {}).get("probing")
    return float((manifest.get("paid_usd") or 0.0) + (probing or 0.0))


def _described(parts: PromptParts, split: Split) -> dict[str, Any]:
    examples = split.examples
    name = parts.dataset.name
    return describe_split(name, parts.split, len(examples), examples.fingerprint())


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 9)


def _difference(cost: float | None, paid: float | None) -> float | None:
    return None if cost is None or paid is None else cost - paid
