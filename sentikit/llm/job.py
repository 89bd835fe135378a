"""A whole LLM run: from a recipe's parts to a finished run folder."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.errors import InputError
from sentikit.llm.asking import PromptRow, label_reader, questions
from sentikit.llm.briefing import Briefing, brief
from sentikit.llm.fine_tuned import missing_run
from sentikit.llm.prices import usd
from sentikit.llm.requests.job import (
    CACHE,
    RequestJob,
    answer_questions,
    check_backend,
    needed_batches,
)
from sentikit.llm.requests.loop import LabelReader, Question
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.requests.settings import FailureLimit, RequestOptions
from sentikit.llm.results import FinishedPrompting, ResultWriter, begin_run
from sentikit.llm.split import Split, split_to_label
from sentikit.llm.tracked import TrackedPrompting
from sentikit.recipe.resolving import differing_keys
from sentikit.registry import Registry, default_registry
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import JsonLinesLog, RunFolder
from sentikit.tracking import TrackedRun

if TYPE_CHECKING:
    from sentikit.llm.parts import PromptParts

#: What models said of the split, kept so that a resumed run asks the very same questions.
FINDINGS = "findings.npz"
#: Files for the provider's batch service.
BATCHES = "batches"


@dataclass(frozen=True)
class PromptOptions:
    """What a user decides at the command line and not in the recipe.

    Attributes:
        limit: label so many examples at most, or None.
        max_cost: USD, or None.
        failure_limit: how many failing rows end the run, or None.
        batch: send the requests through the provider's batch service.
        resume: go on with an unfinished run.
        stop_requested: asked several times a second.
    """

    limit: int | None = None
    max_cost: float | None = None
    failure_limit: FailureLimit | None = None
    batch: bool = False
    resume: bool = False
    stop_requested: Callable[[], bool] = lambda: False


def prompt(
    parts: PromptParts,
    path: Path,
    options: PromptOptions,
    registry: Registry | None = None,
    split: Split | None = None,
) -> FinishedPrompting:
    """Label a split with an LLM and leave a run in `path`.

    Args:
        parts: of the recipe.
        path: of the run.
        options: what the user decides beside it.
        registry: where to look for parts.
        split: the examples to label, where they are not all of the recipe's split.

    Raises:
        RequestsInterrupted: the user asked to stop; the run can be resumed.
        InputError: something the user gave cannot be used; nothing is written.
        SentikitError: an outage, too many failing rows, no money left; the run can be resumed.
    """
    split = split or split_to_label(parts, options.limit)
    run = RunFolder(path)
    with run.locked(new=not options.resume):
        return _PromptJob(parts, run, split, options, registry or default_registry()).run()


def refuse_missing(parts: PromptParts) -> None:
    """Refuse a model that is meant to be the run of a fine-tuning, and is not there yet.

    Raises:
        InputError: it is not there; says how to make it.
    """
    missing = missing_run(parts.llm.model)
    if missing:
        raise InputError(missing)


def refuse_changed(run: RunFolder, parts: PromptParts, split: Split) -> None:
    """Refuse to take the answers of a run that asked something else, or about other examples.

    Raises:
        InputError: the run was begun with other data or other settings.
    """
    manifest = run.manifest
    changed = _differences(manifest.get("recipe", {}), parts.recipe.values)
    if changed:
        raise other_settings(run.path, changed)
    begun = manifest.get("dataset", {}).get("fingerprint")
    if begun != split.examples.fingerprint():
        limit = manifest.get("limit")
        advice = f" It was begun with --limit {limit}." if limit else ""
        raise InputError(
            f"{run.path} was begun with other examples than {split.name} has now.{advice} Start "
            "anew with another --output."
        )


def other_settings(path: Path, changed: Sequence[str]) -> InputError:
    """Return the error for a run that is to be gone on with by other settings than it began with.

    Args:
        path: of the run.
        changed: the settings that differ.
    """
    return InputError(
        f"{path} was begun with other settings: {', '.join(changed)}. Go on with the same ones, or "
        "start anew with another --output: answers that still fit are found in the cache."
    )


class _PromptJob:
    """The steps of an LLM run, in order."""

    def __init__(
        self,
        parts: PromptParts,
        run: RunFolder,
        split: Split,
        options: PromptOptions,
        registry: Registry,
    ) -> None:
        self.parts, self.folder, self.split = parts, run, split
        self.options, self.registry = options, registry
        self.identity = self._identity()
        requests: RequestOptions = parts.llm_options
        self.job = RequestJob(
            run=self.identity,
            total=len(split.examples),
            cache=requests.cache or run.path.resolve().parent / CACHE,
            options=requests,
            max_cost=options.max_cost,
            failure_limit=options.failure_limit,
            stop_requested=options.stop_requested,
            batch_folder=run.path / BATCHES if options.batch else None,
        )

    def run(self) -> FinishedPrompting:
        """Ask everything and write everything."""
        log = JsonLinesLog(self.folder.path / run_folder.LOG)
        refuse_missing(self.parts)
        if self.options.batch:
            needed_batches(self.parts.llm)
        check_backend(self.parts.llm, self.job, RequestReporter(0))
        resume, limit = self.options.resume, self.options.limit
        begin_run(self.folder, self.parts, self.split, resume, self.identity, limit)
        with self._statuses():
            self._remove_halves()
            asked = _Asked(self.parts, self.split, self._brief())
            read_label = label_reader(self.parts)
            with RequestReporter(self.job.total, log) as reporter:
                if not self.parts.trackers:
                    return self._ask(asked, read_label, self.job, reporter)
                run = TrackedRun("prompt", self.folder.path, self.parts.recipe.values)
                with TrackedPrompting(self.parts.trackers, run, read_label, reporter) as tracked:
                    job = replace(self.job, watch=tracked.call)
                    return self._ask(asked, read_label, job, reporter)

    def _ask(
        self, asked: _Asked, read_label: LabelReader, job: RequestJob, reporter: RequestReporter
    ) -> FinishedPrompting:
        parts = self.parts
        writer = ResultWriter(self.folder, parts, self.split)
        with writer:
            outcome = answer_questions(parts.llm, asked, read_label, writer.add, job, reporter)
        opening = outcome.opening_cost
        finished = writer.finish(probing=None if opening is None else usd(opening))
        self.folder.update_manifest(
            requests={
                "retries": outcome.tally.retries,
                "rate_limit_episodes": outcome.tally.limited,
                "service_tiers": outcome.tally.tiers,
            }
        )
        return finished

    def _brief(self) -> Briefing:
        """Gather what the strategy needs; where that is refused, a new run leaves nothing behind.

        Raises:
            InputError: no such encoder, records that do not fit, or too few examples.
        """
        try:
            return brief(self.parts, self.split, self.registry, self.folder.path / FINDINGS)
        except InputError:
            if not self.options.resume:
                for name in (run_folder.MANIFEST, run_folder.RECIPE):
                    (self.folder.path / name).unlink(missing_ok=True)
            raise

    def _identity(self) -> str:
        """Return the run's id: a new one, or that of the run to go on with.

        Raises:
            InputError: the run was begun with other data or other settings.
        """
        if not self.options.resume:
            return uuid.uuid4().hex
        refuse_changed(self.folder, self.parts, self.split)
        return str(self.folder.manifest.get("run_id", ""))

    def _remove_halves(self) -> None:
        """Remove what a killed process left of the predictions; the journal has all of it."""
        for half in self.folder.path.glob(f".{run_folder.PREDICTIONS}.*"):
            half.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _statuses(self) -> Iterator[None]:
        """Let the manifest say how the run ended, whatever happens."""
        try:
            yield
        except BaseException as error:
            if self.folder.status:
                self.folder.end(error)
            raise


@dataclass(frozen=True)
class _Asked:
    """The questions, from the first one each time they are gone through."""

    parts: PromptParts
    split: Split
    briefing: Briefing

    def __iter__(self) -> Iterator[Question[PromptRow]]:
        return questions(self.parts, self.split, self.briefing)


def _differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings that differ and matter: not those that only say how calls are made."""
    free = {f"llm.{name}" for name in RequestOptions.model_fields if name != "repair"}
    free |= {"description", "trackers"}
    return [
        key
        for key in differing_keys(begun, now)
        if key not in free and not key.startswith(("llm.prices.", "trackers."))
    ]
