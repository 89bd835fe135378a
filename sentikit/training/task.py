"""Training tasks: a model of a plugin's own, with its data and its loss, trained by `fit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sentikit.devices import choose_precision
from sentikit.stopping import Interrupted
from sentikit.training.checkpoints import CheckpointFolder, TrainingState
from sentikit.training.data import Labelled
from sentikit.training.engine import Engine, step_plan
from sentikit.training.model import ParameterGroup
from sentikit.training.reporting import Journal, SilentJournal
from sentikit.training.trainer import Trainer

if TYPE_CHECKING:
    from torch import nn

    from sentikit.training.evaluation import Objective
    from sentikit.training.settings import LoopSettings


class TrainingSession(Journal, Protocol):
    """A journal that can also stop training, such as a fine-tuner's session."""

    def stop_requested(self) -> bool: ...


@dataclass(frozen=True)
class TrainingTask:
    """A model, its data and its loss.

    Attributes:
        model: returns the input of `objective` for a batch of `train`, and logits, (rows, classes),
            for a batch of `validation`; its state dict is saved.
        objective: the loss.
        train: inputs and gold classes to train on.
        validation: inputs and gold classes that choose the best epoch.
        classes: names of the classes.
    """

    model: nn.Module
    objective: Objective
    train: Labelled
    validation: Labelled
    classes: tuple[str, ...]


@dataclass(frozen=True)
class TrainingPlace:
    """The engine and the checkpoints of a training task.

    Attributes:
        engine: a started engine.
        checkpoints: the folder of checkpoints.
        identity: a hash of everything that must not change when training resumes.
        section: the section of the recipe, for messages.
    """

    engine: Engine
    checkpoints: Path
    identity: str
    section: str


def fit(
    task: TrainingTask, settings: LoopSettings, place: TrainingPlace, session: TrainingSession
) -> TrainingState | None:
    """Train or resume, and load the best epoch's weights into the model.

    Every process calls this; only the main process reports.

    Returns:
        The final state; None if the user asked to stop. The caller removes the checkpoints after
        saving the model.

    Raises:
        InputError: the checkpoints belong to another training run, or the settings are invalid.
        SentikitError: the disk failed, or the loss became NaN at once.
    """
    engine = place.engine
    trained = {n: p for n, p in task.model.named_parameters() if p.requires_grad}
    groups = [ParameterGroup("all", trained, settings.lr, settings.weight_decay)]
    precision = choose_precision(settings.precision, engine.device)
    plan = step_plan(settings, engine, precision, place.section)
    engine.prepare(task.model, groups, plan)
    trainer = Trainer(
        engine=engine,
        groups=groups,
        plan=plan,
        settings=settings,
        train=task.train,
        validation=task.validation,
        classes=task.classes,
        objective=task.objective,
        checkpoints=CheckpointFolder(place.checkpoints, settings.checkpoints.keep),
        journal=session if engine.is_main_process else SilentJournal(),
        stop_requested=session.stop_requested,
        section=place.section,
    )
    notes = list(trainer.warnings())
    state = trainer.resume(place.identity, session.say)
    trainer.announce(state, notes)
    try:
        return trainer.run(state)
    except Interrupted:
        return None
