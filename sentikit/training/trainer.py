"""The training loop: batches, steps, logs, evaluation and the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sentikit.classifiers.prediction import softmax
from sentikit.devices import half_precision_pays
from sentikit.errors import InputError, SentikitError, did_you_mean
from sentikit.metrics import NamedMetric, installed_metrics
from sentikit.scoring import Scores, score
from sentikit.stopping import Interrupted
from sentikit.training.checkpoints import Checkpoint, CheckpointFolder, TrainingState
from sentikit.training.data import (
    Labelled,
    MicroBatch,
    Rows,
    pinned,
    plan_epoch,
    prefetched,
    share,
    steps_per_epoch,
)
from sentikit.training.evaluation import (
    Objective,
    collapse,
    reason_to_stop,
    shared_logits,
    watch_patience,
    watch_plateau,
    watched_value,
)
from sentikit.training.model import ParameterGroup
from sentikit.training.reporting import Decision, EpochDialogue, Journal, memory_in_use
from sentikit.training.settings import OWN_METRICS, LoopSettings, Moment, rate_at

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sentikit.training.engine import Engine, StepPlan


@dataclass
class Trainer:
    """Trains the engine's model on `train` and keeps the weights that are best on `validation`.

    `changed` is called on the main process when the user has changed settings. `metrics` are those
    of plugins; None means all installed ones that can score the classes.
    """

    engine: Engine
    groups: list[ParameterGroup]
    plan: StepPlan
    settings: LoopSettings
    train: Labelled
    validation: Labelled
    classes: tuple[str, ...]
    objective: Objective
    checkpoints: CheckpointFolder
    journal: Journal
    stop_requested: Callable[[], bool]
    dialogue: EpochDialogue | None = None
    section: str = "training"
    changed: Callable[[TrainingState], None] | None = None
    metrics: Sequence[NamedMetric] | None = None

    def __post_init__(self) -> None:
        self._base = self.settings
        self._saved_at = time.monotonic()
        self._fetched: tuple[int, dict[str, Tensor]] = (-1, {})

    def scored(self) -> Sequence[NamedMetric]:
        return installed_metrics(self.classes) if self.metrics is None else self.metrics

    def run(self, state: TrainingState) -> TrainingState:
        """Train from `state` to the end and leave the best weights in the engine."""
        self._saved_at = time.monotonic()
        self._base = self.settings
        self.settings = self._base.after(state.epoch, state.changes)
        try:
            self._train_epochs(state)
        finally:
            self.checkpoints.flush()
        if not state.best_epoch:
            raise SentikitError(
                f"{state.stopped}, before the end of the first epoch, so there is no model. "
                f"Lower {self.section}.lr, raise {self.section}.warmup or set "
                f"{self.section}.precision=fp32."
            )
        best = self.checkpoints.best(state.best_epoch) if self.engine.is_main_process else {}
        self.engine.load_weights(self.engine.broadcast_tensors(best))
        return state

    def _train_epochs(self, state: TrainingState) -> None:
        while state.epoch < self.settings.epochs and not state.stopped:
            self.train_epoch(state)
            if not state.stopped:
                self._evaluate_epoch(state)
                self.settings = self._base.after(state.epoch, state.changes)
                self._save_when_due(state)
                self._ask_user(state)

    def total_steps(self) -> int:
        return self.settings.epochs * self._steps_per_epoch()

    def train_epoch(self, state: TrainingState) -> None:
        batches = plan_epoch(
            self.train.inputs.lengths, self.plan.batch_size, self.settings.seed, state.epoch
        )
        self.engine.training_mode(True)
        self._fetched = (-1, {})
        pending: list[Tensor] = []
        settings = self.settings
        plans = enumerate(batches[state.batch :], state.step)
        for _, batch in prefetched(plans, self._assemble, settings.workers, settings.prefetch):
            started = time.monotonic()
            rates = self.rates(state)
            seed_dropout(batch.dropout_seed, self.engine.device)
            pending.append(self._accumulate(batch))
            norm = self.engine.step(rates)
            state.step += 1
            state.batch += 1
            state.seconds += time.monotonic() - started
            if state.step % self.settings.log_every == 0 or state.batch == len(batches):
                self._add_losses(state, pending)
                self._log(state, rates, norm)
            if not state.stopped:
                self._between_steps(state, pending, rates, norm)
            if state.stopped:
                return

    def _assemble(self, numbered: tuple[int, Rows]) -> _Batch:
        """Return this process's share of a batch, prepared in a thread."""
        step, rows = numbered
        micro_batches = share(
            rows,
            self.train.inputs.lengths,
            self.engine.rank,
            self.engine.processes,
            self.plan.micro_batch_size,
            self.plan.micro_batch_tokens,
        )
        device = self.engine.device
        return _Batch(
            [
                (piece, pinned(self.train.inputs.batch(piece.rows), device))
                for piece in micro_batches
            ],
            self.objective.total_weight(rows),
            dropout_seed(self.settings.seed, step, self.engine.rank),
        )

    def _accumulate(self, batch: _Batch) -> Tensor:
        """Run a batch's micro-batches forward and backward; return this process's loss."""
        import torch

        losses = []
        for number, (micro_batch, inputs) in enumerate(batch.pieces, 1):
            with self.engine.micro_step(last=number == len(batch.pieces)):
                logits = self.engine.forward(*inputs)
                loss = self.objective.loss(logits, micro_batch, batch.total_weight)
                # Engines average gradients over processes, but the shares of a batch must add up.
                self.engine.backward(loss * self.engine.processes)
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def rates(self, state: TrainingState) -> list[float]:
        moment = Moment(
            state.step, self.total_steps(), self._steps_per_epoch(), self.warmup_steps()
        )
        schedule = self.settings.schedule
        factor = state.plateau_factor * self.settings.lr / self._base.lr
        return [rate_at(schedule, group.lr, moment) * factor for group in self.groups]

    def warmup_steps(self) -> int:
        warmup = self.settings.warmup
        return round(warmup * self.total_steps()) if warmup < 1 else int(warmup)

    def _steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.train.inputs), self.plan.batch_size)

    def _add_losses(self, state: TrainingState, pending: list[Tensor]) -> None:
        """Add the steps' losses of all processes to the state.

        They are added one by one, so that the sums do not depend on where checkpoints fall.
        """
        import torch

        if not pending:
            return
        for loss in self.engine.sum(torch.stack(pending).tolist()):
            state.interval_loss += loss
            state.interval_steps += 1
        pending.clear()

    def _log(self, state: TrainingState, rates: list[float], norm: Any) -> None:
        total, steps = state.interval_loss, state.interval_steps
        state.epoch_loss += total
        state.interval_loss, state.interval_steps = 0.0, 0
        self.journal.record(
            {
                "kind": "step",
                "step": state.step,
                "steps": self.total_steps(),
                "epoch": state.epoch + 1,
                "loss": _finite(total / steps),
                "gradient_norm": _finite(float(norm)),
                "lr": max(rates),
                "seconds": round(state.seconds, 3),
            }
        )
        if not math.isfinite(total):
            self._end_in_nan(state, f"the loss became NaN or infinite at step {state.step}")

    def _end_in_nan(self, state: TrainingState, what: str) -> None:
        state.stopped = what
        message = f"{what}; training ends here, the best weights are kept."
        self.journal.alert("The loss is NaN", message)

    def _between_steps(
        self, state: TrainingState, pending: list[Tensor], rates: list[float], norm: Any
    ) -> None:
        """Save if a checkpoint is due or the user asks to stop.

        All processes must take the same decision. If exchanging it makes a GPU wait, they do so
        only after a log line, where they synchronise anyway.
        """
        if pending and self.engine.processes > 1 and self.engine.device.type != "cpu":
            return
        minutes = self.settings.checkpoints.every_minutes
        due = minutes is not None and time.monotonic() - self._saved_at > 60 * minutes
        stop, due = self._any_process(self.stop_requested(), due)
        if not (stop or due):
            return
        self._add_losses(state, pending)
        if not math.isfinite(state.interval_loss):
            # A run cannot resume from NaN weights, so training ends.
            self._log(state, rates, norm)
            return
        self.save(state, wait=stop)
        if stop:
            raise Interrupted

    def _evaluate_epoch(self, state: TrainingState) -> None:
        """Score the validation split, keep the weights if they are the best, and end the epoch."""
        evaluated = self.evaluate(self.validation)
        if evaluated is None:
            self._end_in_nan(state, f"the validation loss became NaN in epoch {state.epoch + 1}")
            return
        loss, scores = evaluated
        stopping = self.settings.early_stopping
        value = watched_value(stopping, loss, scores)
        training_loss = state.epoch_loss / self._steps_per_epoch()
        state.epoch, state.batch, state.epoch_loss = state.epoch + 1, 0, 0.0
        if message := collapse(state, scores):
            title = "Only one class is predicted" if state.epoch == 1 else "Training collapsed"
            self.journal.alert(title, message)
        state.highest_macro_f1 = max(state.highest_macro_f1, scores.macro_f1)
        if stopping.is_better(value, state.best_value):
            state.best_value, state.best_epoch = value, state.epoch
            weights = self._weights(state)
            if self.engine.is_main_process:
                self.checkpoints.save_best(weights, state.epoch)
        watch_patience(stopping, state, value)
        watch_plateau(self.settings, state, value)
        if state.epoch < self.settings.epochs:
            state.stopped = reason_to_stop(stopping, state, value)
        self.journal.record(
            {
                "kind": "epoch",
                "epoch": state.epoch,
                "epochs": self.settings.epochs,
                "step": state.step,
                "training_loss": training_loss,
                "validation_loss": loss,
                "validation_macro_f1": scores.macro_f1,
                "validation_accuracy": scores.accuracy,
                **{f"validation_{name}": found for name, found in scores.metrics.items()},
                "metric": stopping.metric,
                "best_epoch": state.best_epoch,
                "seconds": round(state.seconds, 3),
            }
        )
        if state.stopped:
            self.journal.alert("Early stop", f"Training ends early: {state.stopped}.")

    def evaluate(self, split: Labelled) -> tuple[float, Scores] | None:
        """Return mean cross-entropy and scores of a split; None if the model yields NaN."""
        logits = shared_logits(self.engine, split.inputs, len(self.classes))
        if not np.isfinite(logits).all():
            return None
        probabilities = softmax(logits)
        answers, metrics = probabilities.argmax(1), self.scored()
        scores = score(split.gold, answers, self.classes, probabilities, metrics)
        assert scores.calibration is not None
        return scores.calibration.negative_log_likelihood, scores

    def _save_when_due(self, state: TrainingState) -> None:
        every = self.settings.checkpoints.every_epochs
        if every and state.epoch % every == 0 and not state.stopped:
            self.save(state)
        if self._any_process(self.stop_requested())[0]:
            self.save(state, wait=True)
            raise Interrupted

    def _any_process(self, *flags: bool) -> list[bool]:
        return [count > 0 for count in self.engine.sum([float(flag) for flag in flags])]

    def _ask_user(self, state: TrainingState) -> None:
        """Let the user change settings between epochs, in all processes."""
        if self.dialogue is None or state.stopped or state.epoch >= self.settings.epochs:
            return
        decision = None
        if self.engine.is_main_process:
            decision = asdict(self.dialogue.ask(state.epoch, memory_in_use))
        decided = Decision(**self.engine.broadcast(decision))
        if decided.changes:
            change = {"after_epoch": state.epoch, **decided.changes}
            state.changes.append(change)
            self.settings = self._base.after(state.epoch, state.changes)
            self.journal.record({"kind": "change", "step": state.step, **change})
            if self.changed is not None and self.engine.is_main_process:
                self.changed(state)
        if decided.save or decided.quit or decided.changes:
            self.save(state, wait=decided.quit)
        if decided.quit:
            raise Interrupted

    def save(self, state: TrainingState, wait: bool = False) -> None:
        """Write a checkpoint in the background; every process takes part."""
        weights, optimizer = self._weights(state), self.engine.optimizer_state()
        if self.engine.is_main_process:
            self.checkpoints.save(Checkpoint(state, weights, optimizer))
            if wait:
                self.checkpoints.flush()
        if wait:
            # No process may exit until the checkpoint is on disk.
            self.engine.sum([0.0])
        self._saved_at = time.monotonic()

    def _weights(self, state: TrainingState) -> dict[str, Tensor]:
        """Return the weights of this step, fetched once for the best weights and a checkpoint."""
        step, weights = self._fetched
        if step != state.step:
            weights = self.engine.weights()
            self._fetched = (state.step, weights)
        return weights

    def resume(
        self, identity: str, tell: Callable[[str], None], wanted: bool = True
    ) -> TrainingState:
        """Load the latest checkpoint into the engine; only the main process reads files."""
        checkpoint = None
        if wanted and self.engine.is_main_process:
            checkpoint = self.checkpoints.latest(identity, tell)
        found = self.engine.broadcast(asdict(checkpoint.state) if checkpoint else None)
        if found is None:
            return TrainingState(identity)
        weights = checkpoint.weights if checkpoint else {}
        self.engine.load_weights(self.engine.broadcast_tensors(weights))
        optimizer = checkpoint.optimizer if checkpoint else {}
        self.engine.load_optimizer_state(self.engine.broadcast_tensors(optimizer))
        return TrainingState(**found)

    def announce(self, state: TrainingState, notes: Iterable[str]) -> None:
        """Show warnings, and the step from which training resumes."""
        self.journal.rewind(state.step, state.epoch)
        for note in notes:
            self.journal.say(note)
        if state.step:
            self.journal.say(f"Resuming after step {state.step:,}.")

    def warnings(self) -> Iterator[str]:
        """Warn about a suspicious but valid plan; refuse one that cannot work."""
        total, warmup, settings = self.total_steps(), self.warmup_steps(), self.settings
        watched = settings.early_stopping.metric
        known = [*OWN_METRICS, *(metric.name for metric in self.scored())]
        if watched not in known:
            raise InputError(
                f"{self.section}.early_stopping.metric: {watched!r} cannot score these classes. "
                f"{did_you_mean(watched, known)}"
            )
        if warmup >= total:
            raise InputError(
                f"{self.section}.warmup is {warmup} steps, but training has only {total}. Lower "
                "it, or set a share such as 0.1."
            )
        longest = settings.schedule.longest_epochs()
        if longest > settings.epochs:
            yield (
                f"{self.section}.schedule {settings.schedule.name} needs {longest:g} epochs, but "
                f"training has only {settings.epochs}, so it has no full effect."
            )
        if self.plan.precision == "bf16" and not half_precision_pays(self.engine.device):
            yield (
                f"{self.section}.precision bf16 is several times slower than fp32 on this device. "
                "Use fp32 or auto."
            )
        yield from self.engine.warnings()


@dataclass(frozen=True)
class _Batch:
    """One process's share of a step."""

    pieces: list[tuple[MicroBatch, tuple[Tensor, ...]]]
    total_weight: float
    dropout_seed: int


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of one step of one process; no random state needs saving."""
    mixed = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]
    return int(mixed) & 0x7FFF_FFFF_FFFF_FFFF


def seed_dropout(seed: int, device: torch.device) -> None:
    # Unlike torch.manual_seed, this seeds only the generators that a step uses.
    import torch

    if device.type == "cuda":
        torch.default_generator.manual_seed(seed)
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
