"""What an epoch's validation means for the rest: early stopping, plateaus, a collapse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentikit.training.schedules import ReduceOnPlateau

if TYPE_CHECKING:
    from sentikit.scoring import Scores
    from sentikit.training.checkpoints import TrainingState
    from sentikit.training.settings import EarlyStopping, LoopSettings

#: A validation score this far below the highest, with one class answered throughout, is a collapse.
_COLLAPSE_DROP = 0.2


def watched_value(stopping: EarlyStopping, loss: float, scores: Scores) -> float:
    """Return the metric that early stopping watches."""
    return {"macro_f1": scores.macro_f1, "accuracy": scores.accuracy, "loss": loss}[stopping.metric]


def watch_patience(stopping: EarlyStopping, state: TrainingState, value: float) -> None:
    """Count the epochs since the last improvement that was more than the tolerance."""
    if stopping.improves(value, state.stopping_best):
        state.stopping_best, state.stale_epochs = value, 0
    else:
        state.stale_epochs += 1


def reason_to_stop(stopping: EarlyStopping, state: TrainingState, value: float) -> str:
    """Say why training should end after this epoch, or return ""."""
    if stopping.reached(value):
        return f"{stopping.metric} reached its target {stopping.target}"
    if stopping.patience and state.stale_epochs >= stopping.patience:
        return (
            f"{stopping.metric} has not improved for {state.stale_epochs} epochs "
            f"(best in epoch {state.best_epoch})"
        )
    return ""


def watch_plateau(settings: LoopSettings, state: TrainingState, value: float) -> None:
    """Lower the rate's factor in `state` after too many evaluations without improvement."""
    schedule = settings.schedule
    if not isinstance(schedule, ReduceOnPlateau):
        return
    watch = settings.early_stopping.model_copy(update={"tolerance": schedule.threshold})
    if watch.improves(value, state.plateau_best):
        state.plateau_best, state.plateau_stale = value, 0
        return
    state.plateau_stale += 1
    if state.plateau_stale > schedule.patience:
        state.plateau_factor = max(schedule.min_factor, state.plateau_factor * schedule.factor)
        state.plateau_stale = 0


def collapse(state: TrainingState, scores: Scores) -> str:
    """Say that a model that had learnt something now answers one class only, or return ""."""
    answered = {name for row in scores.confusion.values() for name, n in row.items() if n}
    if len(answered) > 1 or state.highest_macro_f1 - scores.macro_f1 <= _COLLAPSE_DROP:
        return ""
    return (
        f"Training collapsed in epoch {state.epoch}: every text is called {answered.pop()!r} "
        f"(macro-F1 {scores.macro_f1:.3f}, {state.highest_macro_f1:.3f} at its highest). "
        f"The weights of epoch {state.best_epoch} are kept; a lower lr, more warmup or a "
        "clip_norm prevents it."
    )
