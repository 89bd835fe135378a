"""The fine-tuning job: from a recipe's components to a run that recipes can use as a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit import InputError
from sentikit.extension import (
    FatalError,
    FineTunedModel,
    FineTuningJob,
    Interrupted,
    LiveBar,
    RejectedError,
    RunFolder,
    RunPlan,
    RunReporter,
    RunWriter,
    TrackedRun,
    choose_run_folder,
    open_finetune_recipe,
    read_json,
    set_threads,
    write_json,
)

from .cost import FineTuningEstimate, cost_of, estimate, refuse_cost, refuse_ended
from .examples import FILES, Preparation, PreparedReport

if TYPE_CHECKING:
    from sentikit.extension import FinetuneComponents

#: A fine-tuner's memory: uploaded files and the job's id.
MEMORY = "job.json"


class FineTuningReporter(RunReporter):
    """The session of one run, a ``FineTuningSession``; use as a context manager.

    Args:
        run: its folder.
        components: of the recipe.
        stop_requested: asked several times a second.
        is_main_process: whether this process reports and writes.
    """

    def __init__(
        self,
        run: RunFolder,
        components: FinetuneComponents,
        stop_requested: Callable[[], bool],
        is_main_process: bool = True,
    ) -> None:
        self.stop_requested = stop_requested
        self._memory, self._is_main_process = run.path / MEMORY, is_main_process
        self._shown: set[str] = set()
        self._learning = _LearningBar(is_main_process)
        tracked = TrackedRun(KIND, run.path, components.recipe.values)
        trackers = components.trackers if is_main_process else {}
        super().__init__(tracked, trackers, self._learning, "waiting", announced=False)
        self.status = "interrupted"

    def say(self, message: str) -> None:
        """Print a message, each one only once."""
        if self._is_main_process and message not in self._shown:
            self._shown.add(message)
            super().say(message)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write a record to the log and show it."""
        if self._is_main_process:
            super().record(record)
            self._learning.show(record)

    def rewind(self, step: int, epochs: int = 0) -> None:
        """Remove records after a step or an epoch from the log."""
        if self._is_main_process:
            super().rewind(step, epochs)

    def recall(self, key: str) -> Any:
        """Return a value that was remembered in this run."""
        return read_json(self._memory).get(key) if self._memory.is_file() else None

    def remember(self, key: str, value: Any) -> None:
        """Remember a JSON value in the run."""
        if self._is_main_process:
            known = read_json(self._memory) if self._memory.is_file() else {}
            write_json(self._memory, {**known, key: value})


class _LearningBar(LiveBar):
    """A bar with the loss on a terminal, otherwise a line for each epoch and event."""

    def __init__(self, shown: bool) -> None:
        super().__init__("steps", shown)
        self._furthest = 0

    def show(self, record: Mapping[str, Any]) -> None:
        kind, step = record.get("kind"), record.get("step") or 0
        if kind == "event":
            self.say(str(record.get("message", "")))
        elif kind == "epoch":
            self.say(f"epoch {record.get('epoch')}  {_losses(record)}")
        elif step >= self._furthest:
            self._furthest = step
            self.update(step, record.get("steps") or step, _losses(record))


def _losses(record: Mapping[str, Any]) -> str:
    """Return the losses and accuracies of a record, as text."""
    shown = [
        f"{name.replace('macro_f1', 'macro-F1').replace('_', ' ')} {value:.4f}"
        for name, value in record.items()
        if isinstance(value, float) and ("loss" in name or "accuracy" in name or "f1" in name)
    ]
    return "  ".join(shown)


KIND = "finetune"
#: Statuses of a manifest, in addition to those of every run.
PREPARED, CANCELLED = "prepared", "cancelled"
_RUNS = Path("runs")


@dataclass(frozen=True)
class FineTuningOptions:
    """Options that are given on the command line, not in the recipe.

    Attributes:
        max_cost: USD, or None.
        wait: whether to wait for the end of a provider's job.
        resume: resume an unfinished run.
        device: auto, cpu, cuda, …, if the fine-tuner trains here.
        threads: CPU threads of this process, or None.
        stop_requested: asked several times a second.
    """

    max_cost: float | None = None
    wait: bool = True
    resume: bool = False
    device: str = "auto"
    threads: int | None = None
    stop_requested: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class FinishedFineTuning:
    """The result of a fine-tuning.

    Attributes:
        path: the run's folder, which a recipe names as ``llm.model``.
        model: the name for its backend; "" while the job is running.
        base_model: the model it was made from.
        cost_usd: the billed cost; None if unknown.
        metrics: losses and other numbers.
    """

    path: Path
    model: str
    base_model: str
    cost_usd: float | None
    metrics: dict[str, Any]


class FineTuning:
    """The fine-tuning that a recipe asks for.

    Args:
        components: of the recipe.
    """

    def __init__(self, components: FinetuneComponents) -> None:
        self.components = components
        self._keep: Path | None = None

    @cached_property
    def _preparation(self) -> Preparation:
        return Preparation(self.components, self._keep)

    @cached_property
    def report(self) -> PreparedReport:
        """The report about the examples; nothing is written.

        Raises:
            InputError: the provider would refuse them.
        """
        bar = LiveBar("examples")
        bar.start(self._preparation.looks, line="preparing")
        self._preparation.advance = bar.advance
        try:
            return self._preparation.report
        finally:
            bar.stop()

    @property
    def estimate(self) -> FineTuningEstimate:
        """The estimated cost; nothing is sent or written.

        Raises:
            InputError: the provider would refuse the examples.
        """
        return estimate(self.components, self.report)

    @property
    def trains_here(self) -> bool:
        """Whether the training runs on this machine."""
        return self.components.fine_tuner.trains_here

    def choose_folder(self, output: Path | None = None, resume: bool = False) -> Path:
        """Return the run's folder: the given one, a new one, or the one to resume.

        Raises:
            InputError: it is not empty, or there is nothing to resume.
        """
        return choose_run_folder(output, self.components.recipe.name, resume, _RUNS).path

    def prepare(self, path: Path) -> PreparedReport:
        """Only write the files; `run` with ``resume`` continues from there.

        Raises:
            InputError: the provider would refuse the examples; nothing is written.
        """
        run = RunFolder(path)
        with run.locked(), RunWriter(run, self._plan()) as writer:
            self._write(writer, path, resume=False)
            run.update_manifest(status=PREPARED)
        return self.report

    def run(self, path: Path, options: FineTuningOptions | None = None) -> FinishedFineTuning:
        """Prepare, check and fine-tune; write the run to `path`.

        Raises:
            Interrupted: the user stopped a training on this machine.
            InputError: the input cannot be used; nothing is uploaded or trained.
            SentikitError: the provider refuses or fails.
        """
        chosen = options or FineTuningOptions()
        if not chosen.wait and self.trains_here:
            raise InputError(
                "This provider trains on this machine, so there is no remote job to leave running."
            )
        run, engine = RunFolder(path), self.components.engine
        if engine is None:
            with run.locked():
                return self._run(run, chosen)
        set_threads(chosen.threads)
        engine.start(chosen.device)
        try:
            with run.locked() if engine.is_main_process else contextlib.nullcontext():
                return self._run(run, chosen)
        finally:
            engine.finish()

    def cancel(self, path: Path) -> None:
        """Cancel the job that a run follows.

        Raises:
            InputError: there is none.
            SentikitError: the provider refuses.
        """
        run = RunFolder(path)
        with run.locked():
            job = self._job(run, str(run.manifest.get("fingerprint", "")), FineTuningOptions())
            self.components.fine_tuner.cancel(job, self._session(run, FineTuningOptions()))
            ended = datetime.now(UTC).isoformat(timespec="seconds")
            run.update_manifest(status=CANCELLED, finished=ended)

    @property
    def _is_main_process(self) -> bool:
        return self.components.engine is None or self.components.engine.is_main_process

    def _session(self, run: RunFolder, options: FineTuningOptions) -> FineTuningReporter:
        return FineTuningReporter(
            run, self.components, options.stop_requested, self._is_main_process
        )

    def _run(self, run: RunFolder, options: FineTuningOptions) -> FinishedFineTuning:
        session, engine = self._session(run, options), self.components.engine
        fingerprint = self._check(run, options, session) if self._is_main_process else ""
        plan = self._plan() if self._is_main_process else None
        with RunWriter(run, plan) if plan else contextlib.nullcontext() as writer:
            if writer:
                self._write(writer, run.path, options.resume)
            if engine is not None:
                # Other processes wait here until the files are written.
                fingerprint = engine.broadcast(fingerprint)
            with session:
                job = self._job(run, fingerprint, options)
                model = self.components.fine_tuner.run(job, session)
                if model is None and self.trains_here:
                    raise Interrupted
                if model is not None:
                    session.metrics, session.status = model.metrics, "finished"
            return self._finish(run, writer, model)

    def _check(
        self, run: RunFolder, options: FineTuningOptions, session: FineTuningReporter
    ) -> str:
        """Check everything that can be checked; return the fingerprint."""
        warning = refuse_ended(self.components, date.today())
        self._keep = run.path if options.resume else None
        for text in [warning, *self.report.warnings()]:
            if text:
                session.say(text)
        session.say(self.estimate.to_line())
        if options.max_cost is not None:
            refuse_cost(self.estimate, options.max_cost)
        if options.resume and run.manifest.get("fingerprint") != self.fingerprint:
            raise InputError(
                f"{run.path} was started with other examples, another model or other settings. "
                "Resume it with the same ones, or start a new one with another --output."
            )
        try:
            self.components.fine_tuner.check(session)
        except (FatalError, RejectedError) as error:
            raise InputError(error.message) from error
        return self.fingerprint

    @property
    def fingerprint(self) -> str:
        """A hash of the data, the base model and the settings."""
        digests = {use: split.digest for use, split in self.report.splits.items()}
        identity = dict(self.components.fine_tuner.identity())
        canonical = json.dumps([self.components.provider, identity, digests], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _plan(self) -> RunPlan:
        """Return the plan of the run."""
        described = {
            use: {
                "dataset": split.dataset,
                "split": split.split,
                "examples": len(split.examples),
                "fingerprint": split.examples.fingerprint(),
            }
            for use, split in self._preparation.splits.items()
        }
        return RunPlan(
            kind=KIND,
            recipe=self.components.recipe.values,
            recipe_text=self.components.recipe.to_yaml(),
            split=self._preparation.splits["train"],
            manifest={
                "data": described,
                "files": self.report.to_json()["splits"],
                "provider": self.components.provider,
                "base_model": self.components.fine_tuner.model,
                "fingerprint": self.fingerprint,
                "estimate": self.estimate.to_json(),
            },
        )

    def _write(self, writer: RunWriter, folder: Path, resume: bool) -> None:
        """Write the manifest, so that the run can be resumed if it is killed, then the files."""
        writer.begin(resume)
        self._preparation.write(folder)

    def _job(self, run: RunFolder, fingerprint: str, options: FineTuningOptions) -> FineTuningJob:
        validation = run.path / FILES["validation"]
        return FineTuningJob(
            path=run.path,
            train=run.path / FILES["train"],
            validation=validation if validation.is_file() else None,
            classes=self.components.dataset.scheme.classes,
            fingerprint=fingerprint,
            engine=self.components.engine,
            wait=options.wait,
        )

    def _finish(
        self, run: RunFolder, writer: RunWriter | None, model: FineTunedModel | None
    ) -> FinishedFineTuning:
        base = self.components.fine_tuner.model
        if model is None:
            return FinishedFineTuning(run.path, "", base, None, {})
        cost, inside = self._cost(model), isinstance(model.model, Path)
        engine, metrics = self.components.engine, dict(model.metrics)
        if writer:
            writer.finish(
                files={"metrics.json": metrics},
                costs={"fine_tuning": cost} if self.components.fine_tuner.billed else {},
                fine_tuned={
                    "model": None if inside else str(model.model),
                    "folder": str(model.model) if inside else None,
                    "llm": dict(model.llm),
                },
                trained_tokens=model.tokens,
                training_seconds=None if model.seconds is None else round(model.seconds, 3),
                device=None if engine is None else str(engine.device),
                processes=1 if engine is None else engine.processes,
            )
        asked = str(run.path / model.model) if isinstance(model.model, Path) else model.model
        return FinishedFineTuning(run.path, asked, base, cost, metrics)

    def _cost(self, model: FineTunedModel) -> float | None:
        """Return the cost in USD of the billed tokens, or else of the counted ones."""
        tokens = self.estimate.tokens if model.tokens is None else model.tokens
        return cost_of(tokens, self.estimate.price)


def open_fine_tuning(recipe: str | None, settings: tuple[str, ...] = ()) -> FineTuning:
    """Return the fine-tuning that a recipe of kind ``finetune`` asks for.

    Args:
        recipe: a name or a YAML file; None lists the choices.
        settings: overrides, as ``("finetune.epochs=3",)``.

    Raises:
        InputError: no such recipe, or anything wrong with it; all problems at once.
    """
    return FineTuning(open_finetune_recipe(recipe, settings))
