"""A whole fine-tuning: from a recipe's components to a run that recipes name as a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sentikit.errors import InputError
from sentikit.files import read_json, write_json
from sentikit.finetuning.cost import (
    FineTuningEstimate,
    cost_of,
    estimate,
    refuse_cost,
    refuse_ended,
)
from sentikit.finetuning.examples import FILES, Preparation, PreparedReport
from sentikit.finetuning.fine_tuner import FineTunedModel, FineTuningJob
from sentikit.llm.backend import FatalError, RejectedError
from sentikit.registry import Registry, default_registry
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import (
    INTERRUPTED,
    LOG,
    JsonLinesLog,
    RunFolder,
    choose_run_folder,
    command_line,
    describe_split,
    end_status,
    now,
    versions,
)
from sentikit.stopping import Interrupted
from sentikit.terminal import LiveBar
from sentikit.tracking import TrackedRun, Tracker, TrackerGroup

if TYPE_CHECKING:
    from sentikit.finetuning.recipe import FinetuneParts


#: What a fine-tuner remembers: uploaded files, the job's id.
MEMORY = "job.json"


class RunSession:
    """The session of one run, a ``FineTuningSession``; use as a context manager once it has begun.

    Args:
        run: its folder.
        recipe: the resolved recipe's sections.
        trackers: where the run is shown besides.
        stop_requested: asked several times a second.
        is_main_process: whether this process reports and writes.
    """

    def __init__(
        self,
        run: RunFolder,
        recipe: Mapping[str, Any],
        trackers: Mapping[str, Tracker],
        stop_requested: Callable[[], bool],
        is_main_process: bool = True,
    ) -> None:
        self.stop_requested = stop_requested
        #: What trackers are told at the end, unless something fails.
        self.metrics: Mapping[str, Any] = {}
        self.status = INTERRUPTED
        self._run, self._recipe, self._is_main_process = run, recipe, is_main_process
        self._log = JsonLinesLog(run.path / LOG)
        self._trackers = TrackerGroup(trackers if is_main_process else {}, self.say)
        self._bar = _LearningBar()
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        self._trackers.start(TrackedRun("finetune", self._run.path, self._recipe))
        if self._is_main_process:
            self._bar.start(line="waiting")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._log.close()
        self._trackers.finish(self.metrics, end_status(error) if error else self.status)

    def say(self, message: str) -> None:
        """Tell the user something, the same thing once."""
        if self._is_main_process and message not in self._said:
            self._said.add(message)
            self._bar.say(message)

    def alert(self, title: str, text: str) -> None:
        """Tell the user and the trackers something."""
        self.say(text)
        self._trackers.alert(title, text)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write a line of the log and show it."""
        if not self._is_main_process:
            return
        self._log.write(dict(record))
        self._trackers.log(record)
        self._bar.show(record)

    def rewind(self, step: int, epochs: int = 0) -> None:
        """Forget what was logged after a step, and after an epoch."""
        if self._is_main_process:
            self._log.close()
            self._log.keep(step if step else -1, epochs)

    def recall(self, key: str) -> Any:
        """Return what was remembered in this run."""
        path = self._run.path / MEMORY
        return read_json(path).get(key) if path.is_file() else None

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON value in the run."""
        if self._is_main_process:
            path = self._run.path / MEMORY
            known = read_json(path) if path.is_file() else {}
            write_json(path, {**known, key: value})


class _LearningBar(LiveBar):
    """A bar with the loss on a terminal; elsewhere a line for each epoch and event."""

    def __init__(self) -> None:
        super().__init__("steps")
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
    """Return the numbers of a record whose names say that they are losses or accuracies."""
    shown = [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in record.items()
        if isinstance(value, float) and ("loss" in name or "accuracy" in name or "f1" in name)
    ]
    return "  ".join(shown)


KIND = "finetune"
#: Statuses of a manifest beside those of every run.
PREPARED, CANCELLED = "prepared", "cancelled"
_RUNS = Path("runs")


@dataclass(frozen=True)
class FineTuningOptions:
    """What a user decides at the command line and not in the recipe.

    Attributes:
        max_cost: USD, or None.
        wait: whether to wait for the end of a job that runs elsewhere.
        resume: resume an unfinished run.
        device: auto, cpu, cuda, … where the fine-tuner trains here.
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
    """What a fine-tuning came to.

    Attributes:
        path: the run's folder, which a recipe names as ``llm.model``.
        model: what its backend is asked for; "" while the job goes on.
        base_model: the model it was made from.
        cost_usd: what was billed; None where unknown.
        metrics: losses and the like.
    """

    path: Path
    model: str
    base_model: str
    cost_usd: float | None
    metrics: dict[str, Any]


class FineTuning:
    """The fine-tuning that a recipe asks for.

    Args:
        parts: of the recipe.
        registry: where to look for parts.
    """

    def __init__(self, parts: FinetuneParts, registry: Registry | None = None) -> None:
        self.parts = parts
        self._registry = registry or default_registry()
        self._keep: Path | None = None

    @cached_property
    def _preparation(self) -> Preparation:
        return Preparation(self.parts, self._registry, self._keep)

    @cached_property
    def report(self) -> PreparedReport:
        """What the examples come to; nothing is written.

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
        """What it would cost; nothing is asked and nothing written.

        Raises:
            InputError: the provider would refuse the examples.
        """
        return estimate(self.parts, self.report)

    @property
    def trains_here(self) -> bool:
        """Whether this machine computes."""
        return self.parts.fine_tuner.trains_here

    def choose_folder(self, output: Path | None = None, resume: bool = False) -> Path:
        """Return the run's folder: the one asked for, a new one, or the one to resume.

        Raises:
            InputError: it holds something already, or there is nothing to resume.
        """
        return choose_run_folder(output, self.parts.recipe.name, resume, _RUNS).path

    def prepare(self, path: Path) -> PreparedReport:
        """Write the files and no more; `run` with ``resume`` goes on from there.

        Raises:
            InputError: the provider would refuse the examples; nothing is written.
        """
        run = RunFolder(path)
        with run.locked():
            self._write(run, False, PREPARED)
        return self.report

    def run(self, path: Path, options: FineTuningOptions | None = None) -> FinishedFineTuning:
        """Prepare, check and teach; leave a run in `path`.

        Raises:
            Interrupted: the user asked to stop a training that computes here.
            InputError: something the user gave cannot be used; nothing is uploaded or trained.
            SentikitError: the provider refuses or fails; gives its reason.
        """
        chosen = options or FineTuningOptions()
        if not chosen.wait and self.trains_here:
            raise InputError("This provider trains here: there is nothing to wait for elsewhere.")
        run, engine = RunFolder(path), self.parts.engine
        if engine is None:
            with run.locked():
                return self._run(run, chosen)
        from sentikit.devices import set_threads

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
            self.parts.fine_tuner.cancel(job, self._session(run, FineTuningOptions()))
            run.update_manifest(status=CANCELLED, finished=now())

    @property
    def _is_main_process(self) -> bool:
        return self.parts.engine is None or self.parts.engine.is_main_process

    def _session(self, run: RunFolder, options: FineTuningOptions) -> RunSession:
        values, trackers = self.parts.recipe.values, self.parts.trackers
        return RunSession(run, values, trackers, options.stop_requested, self._is_main_process)

    def _run(self, run: RunFolder, options: FineTuningOptions) -> FinishedFineTuning:
        session, engine = self._session(run, options), self.parts.engine
        fingerprint = self._begin(run, options, session) if self._is_main_process else ""
        if engine is not None:
            # Others wait here until the files are written.
            fingerprint = engine.broadcast(fingerprint)
        with self._statuses(run), session:
            job = self._job(run, fingerprint, options)
            model = self.parts.fine_tuner.run(job, session)
            if model is None and self.trains_here:
                raise Interrupted
            if model is not None:
                session.metrics, session.status = model.metrics, run_folder.FINISHED
            return self._finish(run, model)

    def _begin(self, run: RunFolder, options: FineTuningOptions, session: RunSession) -> str:
        """Refuse whatever can be refused, then write the files; return the fingerprint."""
        warning = refuse_ended(self.parts, date.today())
        self._keep = run.path if options.resume else None
        for text in [warning, *self.report.warnings()]:
            if text:
                session.say(text)
        session.say(self.estimate.to_line())
        if options.max_cost is not None:
            refuse_cost(self.estimate, options.max_cost)
        if options.resume:
            self._refuse_other(run)
        try:
            self.parts.fine_tuner.check(session)
        except (FatalError, RejectedError) as error:
            raise InputError(error.message) from error
        self._write(run, options.resume, run_folder.RUNNING)
        return self.fingerprint

    @property
    def fingerprint(self) -> str:
        """A hash of the data, the base model and the settings."""
        digests = {use: split.digest for use, split in self.report.splits.items()}
        identity = dict(self.parts.fine_tuner.identity())
        said = json.dumps([self.parts.provider, identity, digests], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def _refuse_other(self, run: RunFolder) -> None:
        begun = run.manifest.get("fingerprint")
        if begun != self.fingerprint:
            raise InputError(
                f"{run.path} was begun with other examples, another model or other settings. Go "
                "on with the same ones, or start anew with another --output."
            )

    def _write(self, run: RunFolder, resume: bool, status: str) -> None:
        """Write the manifest, so that a kill leaves what can be resumed, then the files."""
        described = {
            use: describe_split(
                self.parts.dataset.name,
                split,
                len(self._preparation.splits[use].examples),
                self._preparation.splits[use].examples.fingerprint(),
            )
            for use, split in zip(FILES, self.parts.splits, strict=False)
        }
        begun = {} if resume else {"kind": KIND, "started": now()}
        run.update_manifest(
            **begun,
            status=status,
            recipe=self.parts.recipe.values,
            command=command_line(),
            dataset=described["train"],
            data=described,
            files=self.report.to_json()["splits"],
            classes=list(self.parts.dataset.scheme.classes),
            provider=self.parts.provider,
            base_model=self.parts.fine_tuner.model,
            fingerprint=self.fingerprint,
            estimate=self.estimate.to_json(),
            versions=versions(),
        )
        run.write_recipe(self.parts.recipe.to_yaml())
        self._preparation.write(run.path)

    def _job(self, run: RunFolder, fingerprint: str, options: FineTuningOptions) -> FineTuningJob:
        validation = run.path / FILES["validation"]
        return FineTuningJob(
            path=run.path,
            train=run.path / FILES["train"],
            validation=validation if validation.is_file() else None,
            classes=self.parts.dataset.scheme.classes,
            fingerprint=fingerprint,
            engine=self.parts.engine,
            wait=options.wait,
        )

    @contextlib.contextmanager
    def _statuses(self, run: RunFolder) -> Iterator[None]:
        """Let the manifest say how the run ended, whatever happens."""
        try:
            yield
        except BaseException as error:
            if self._is_main_process:
                run.end(error)
            raise

    def _finish(self, run: RunFolder, model: FineTunedModel | None) -> FinishedFineTuning:
        base = self.parts.fine_tuner.model
        if model is None:
            return FinishedFineTuning(run.path, "", base, None, {})
        cost = self._cost(model)
        finished = FinishedFineTuning(run.path, _asked(run, model), base, cost, dict(model.metrics))
        if self._is_main_process:
            write_json(run.path / run_folder.METRICS, finished.metrics)
            self._end(run, model, cost)
        return finished

    def _cost(self, model: FineTunedModel) -> float | None:
        """Return USD for the tokens that were billed, or for those that were counted."""
        tokens = self.estimate.tokens if model.tokens is None else model.tokens
        return cost_of(tokens, self.estimate.price)

    def _end(self, run: RunFolder, model: FineTunedModel, cost: float | None) -> None:
        inside = isinstance(model.model, Path)
        run.update_manifest(
            status=run_folder.FINISHED,
            finished=now(),
            fine_tuned={
                "model": None if inside else str(model.model),
                "folder": str(model.model) if inside else None,
                "llm": dict(model.llm),
            },
            trained_tokens=model.tokens,
            training_seconds=None if model.seconds is None else round(model.seconds, 3),
            device=None if self.parts.engine is None else str(self.parts.engine.device),
            processes=1 if self.parts.engine is None else self.parts.engine.processes,
            cost_usd={"fine_tuning": cost} if self.parts.fine_tuner.billed else {},
        )


def _asked(run: RunFolder, model: FineTunedModel) -> str:
    return str(run.path / model.model) if isinstance(model.model, Path) else model.model


def open_fine_tuning(
    recipe: str | None, settings: tuple[str, ...] = (), registry: Registry | None = None
) -> FineTuning:
    """Return the fine-tuning that a recipe of kind ``finetune`` asks for.

    Args:
        recipe: a name or a YAML file; None lists the choices.
        settings: overrides, as ``("finetune.epochs=3",)``.
        registry: where to look for parts.

    Raises:
        InputError: no such recipe, or anything wrong with it; all problems at once.
    """
    from sentikit.finetuning.recipe import finetune_parts
    from sentikit.recipe.catalogue import needed_recipe
    from sentikit.recipe.resolving import resolve_recipe

    known = registry or default_registry()
    name = needed_recipe(recipe, KIND, known)
    return FineTuning(finetune_parts(resolve_recipe(name, settings, known), known), known)
