"""Training of any module with the toolkit's own loop: the interface for plugins that train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sentikit.devices import choose_precision, half_precision_pays
from sentikit.errors import InputError, did_you_mean
from sentikit.stopping import Interrupted
from sentikit.training.checkpoints import CheckpointFolder, TrainingState
from sentikit.training.data import Labelled
from sentikit.training.engine import step_plan
from sentikit.training.parameters import ParameterGroup
from sentikit.training.reporting import Journal
from sentikit.training.settings import OWN_METRICS
from sentikit.training.trainer import Trainer

if TYPE_CHECKING:
    from torch import nn

    from sentikit.training.engine import Engine
    from sentikit.training.evaluation import Objective
    from sentikit.training.settings import LoopSettings


class TrainingSession(Protocol):
    """Whom the loop reports to; a fine-tuner's session is one."""

    def say(self, message: str) -> None:
        """Tell the user, once."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Take a line of the log."""

    def rewind(self, step: int, epochs: int = 0) -> None:
        """Forget the lines after a step: they will come again."""

    def stop_requested(self) -> bool:
        """Say whether the user has asked to stop."""


@dataclass(frozen=True)
class TrainingTask:
    """A model and what it is trained on.

    Attributes:
        model: its forward pass of a batch of `train` gives what `objective` reads, and of one of
            `validation` logits, (rows, classes); its state dict holds all that is to be kept.
        objective: the loss.
        train: inputs and gold classes to learn from.
        validation: to choose the best epoch by.
        classes: their names.
    """

    model: nn.Module
    objective: Objective
    train: Labelled
    validation: Labelled
    classes: tuple[str, ...]


@dataclass(frozen=True)
class TrainingPlace:
    """Where training runs, and the identity by which it resumes.

    Attributes:
        engine: started.
        checkpoints: a folder for them.
        identity: a hash of whatever must not change between the parts of a run.
        section: of the recipe, for messages.
    """

    engine: Engine
    checkpoints: Path
    identity: str
    section: str


def fit(
    task: TrainingTask, settings: LoopSettings, place: TrainingPlace, session: TrainingSession
) -> TrainingState | None:
    """Train, or go on where training was killed, and leave the best epoch's weights in the model.

    With several processes each calls this; only the main process reports.

    Returns:
        Where training ended; None where the user asked to stop. The checkpoints stay until
        the caller has kept the model.

    Raises:
        InputError: the checkpoints belong to another training, or the settings cannot work.
        SentikitError: the disk failed, or the loss became NaN at once.
    """
    trainer = _trainer(task, settings, place, session)
    notes = list(remarks(trainer))
    latest = trainer.checkpoints.latest
    checkpoint = latest(place.identity, session.say) if place.engine.is_main_process else None
    state = trainer.restore(checkpoint) or TrainingState(place.identity)
    if place.engine.is_main_process:
        session.rewind(state.step, state.epoch)
        trainer.journal = _SessionJournal(session, trainer.total_steps())
    for note in notes:
        trainer.journal.say(note)
    if state.step:
        trainer.journal.say(f"Resuming after step {state.step:,}.")
    try:
        return trainer.run(state)
    except Interrupted:
        return None


def _trainer(
    task: TrainingTask, settings: LoopSettings, place: TrainingPlace, session: TrainingSession
) -> Trainer:
    trained = {n: p for n, p in task.model.named_parameters() if p.requires_grad}
    groups = [ParameterGroup("all", trained, settings.lr, settings.weight_decay)]
    precision = choose_precision(settings.precision, place.engine.device)
    plan = step_plan(settings, place.engine, precision, place.section)
    place.engine.prepare(task.model, groups, plan)
    return Trainer(
        engine=place.engine,
        groups=groups,
        plan=plan,
        settings=settings,
        train=task.train,
        validation=task.validation,
        classes=task.classes,
        objective=task.objective,
        checkpoints=CheckpointFolder(place.checkpoints, settings.checkpoints.keep),
        journal=Journal(),
        stop_requested=session.stop_requested,
        section=place.section,
    )


class _SessionJournal(Journal):
    """Passes the loop's reports on to a session."""

    def __init__(self, session: TrainingSession, steps: int) -> None:
        self._session = session
        self._steps = steps

    def step(self, record: dict[str, Any]) -> None:
        self._session.record({"kind": "step", "steps": self._steps, **record})

    def epoch(self, record: dict[str, Any]) -> None:
        self._session.record({"kind": "epoch", **record})

    def say(self, message: str) -> None:
        self._session.say(message)


def remarks(trainer: Trainer) -> Iterator[str]:
    """Yield what is odd about a plan but no mistake for sure.

    Raises:
        InputError: what cannot work: warm-up as long as training, a metric that is not scored.
    """
    total, settings = trainer.total_steps(), trainer.settings
    watched, known = settings.early_stopping.metric, [metric.name for metric in trainer.scored()]
    if watched not in (known := [*OWN_METRICS, *known]):
        raise InputError(
            f"{trainer.section}.early_stopping.metric: {watched!r} does not score these classes. "
            f"{did_you_mean(watched, known)}"
        )
    if trainer.warmup_steps() >= total:
        raise InputError(
            f"{trainer.section}.warmup: {trainer.warmup_steps()} steps of warm-up, training has "
            f"{total}. Give fewer, or a share such as 0.1."
        )
    longest = settings.schedule.longest_epochs()
    if longest > settings.epochs:
        yield (
            f"{trainer.section}.schedule {settings.schedule.name} changes only after {longest:g} "
            f"epochs, training has {settings.epochs}: it will not run its course."
        )
    if trainer.plan.precision == "bf16" and not half_precision_pays(trainer.engine.device):
        yield (
            f"{trainer.section}.precision bf16 is several times slower than fp32 on this device; "
            "auto chooses fp32 here."
        )
    yield from _missing_classes("training", trainer.train, trainer.classes)
    yield from _missing_classes("validation", trainer.validation, trainer.classes)
    yield from trainer.engine.remarks()


def _missing_classes(split: str, examples: Labelled, classes: tuple[str, ...]) -> Iterator[str]:
    counts = np.bincount(examples.gold, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if not count:
            yield (
                f"No {split} example is labelled {name!r}, whose F1 counts as 0 in macro-F1. For "
                "data of two classes set dataset.labels, as bin_neg or bin_pos."
            )
