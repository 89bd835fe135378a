"""Trains any module with the toolkit's own loop: the door for plugins that train here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sentikit.devices import choose_precision
from sentikit.stopping import Interrupted
from sentikit.training.checkpoints import CheckpointFolder, TrainingState
from sentikit.training.parameter_groups import ParameterGroup
from sentikit.training.preparing import step_plan
from sentikit.training.remarks import remarks
from sentikit.training.reporting import SilentJournal
from sentikit.training.trainer import Labelled, Trainer

if TYPE_CHECKING:
    from torch import nn

    from sentikit.training.engine import Engine
    from sentikit.training.objective import Objective
    from sentikit.training.settings import LoopSettings


class FittingSession(Protocol):
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
class Lesson:
    """Who learns what.

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
class FittingPlace:
    """Where training happens, and under what name it goes on after a kill.

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
    lesson: Lesson, settings: LoopSettings, place: FittingPlace, session: FittingSession
) -> TrainingState | None:
    """Train, or go on where training was killed, and leave the best epoch's weights in the model.

    With several processes each calls this; only the one that speaks reports.

    Returns:
        Where training ended; None where the user asked to stop. The checkpoints stay until
        whoever called has kept the model.

    Raises:
        InputError: the checkpoints belong to another training, or the settings cannot work.
        SentikitError: the disk failed, or the loss became NaN at once.
    """
    trainer = _trainer(lesson, settings, place, session)
    notes = list(remarks(trainer))
    latest = trainer.checkpoints.latest
    checkpoint = latest(place.identity, session.say) if place.engine.speaks else None
    state = trainer.restore(checkpoint) or TrainingState(place.identity)
    if place.engine.speaks:
        session.rewind(state.step, state.epoch)
        trainer.journal = _SessionJournal(session, trainer.total_steps())
    for note in notes:
        trainer.journal.say(note)
    if state.step:
        trainer.journal.say(f"Going on after step {state.step:,}.")
    try:
        return trainer.run(state)
    except Interrupted:
        return None


def _trainer(
    lesson: Lesson, settings: LoopSettings, place: FittingPlace, session: FittingSession
) -> Trainer:
    trained = {n: p for n, p in lesson.model.named_parameters() if p.requires_grad}
    groups = [ParameterGroup("all", trained, settings.lr, settings.weight_decay)]
    precision = choose_precision(settings.precision, place.engine.device)
    plan = step_plan(settings, place.engine, precision, place.section)
    place.engine.prepare(lesson.model, groups, plan)
    return Trainer(
        engine=place.engine,
        groups=groups,
        plan=plan,
        settings=settings,
        train=lesson.train,
        validation=lesson.validation,
        classes=lesson.classes,
        objective=lesson.objective,
        checkpoints=CheckpointFolder(place.checkpoints, settings.checkpoints.keep),
        journal=SilentJournal(),
        stop_requested=session.stop_requested,
        section=place.section,
    )


class _SessionJournal(SilentJournal):
    """Passes the loop's reports on to a session."""

    def __init__(self, session: FittingSession, steps: int) -> None:
        self._session = session
        self._steps = steps

    def step(self, record: dict[str, Any]) -> None:
        self._session.record({"kind": "step", "steps": self._steps, **record})

    def epoch(self, record: dict[str, Any]) -> None:
        self._session.record({"kind": "epoch", **record})

    def say(self, message: str) -> None:
        self._session.say(message)

    def alert(self, title: str, text: str) -> None:
        self._session.say(text)
