"""Checkpoints, from which a killed training run resumes to the same result.

A checkpoint is a folder of safetensors and JSON: all weights, the optimizer state and the position
in training. Data order and dropout depend only on seed, epoch, step and rank, so no random state
is saved, and a checkpoint fits any number of processes.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.errors import InputError
from sentikit.files import disk_errors, folder_writer, read_json, remove_leftovers, sync, write_json
from sentikit.weights import read_weights, write_weights

if TYPE_CHECKING:
    from torch import Tensor


_PREFIX = "step-"
_STATE, _WEIGHTS, _OPTIMIZER = "state.json", "weights.safetensors", "optimizer.safetensors"
_BEST_PREFIX = "best-"
_MOST_WRITING = 2


@dataclass
class TrainingState:
    """The position in training; `identity` hashes what must not change when a run resumes."""

    identity: str
    epoch: int = 0  # epochs done
    batch: int = 0  # batches done in the current epoch
    step: int = 0  # optimizer steps done
    best_value: float | None = None  # of the watched metric
    best_epoch: int = 0  # from 1
    highest_macro_f1: float = 0.0  # whichever metric is watched
    stopping_best: float | None = None  # the value early stopping compares with
    stale_epochs: int = 0  # since it was reached
    plateau_factor: float = 1.0  # by which reduce_on_plateau has multiplied the rate
    plateau_best: float | None = None
    plateau_stale: int = 0  # evaluations since plateau_best was reached
    epoch_loss: float = 0.0  # sum of the batches' losses in this epoch, up to the last log line
    interval_loss: float = 0.0  # the same since the last log line
    interval_steps: int = 0
    seconds: float = 0.0
    stopped: str = ""  # why training ended before its last epoch
    changes: list[dict[str, Any]] = field(default_factory=list)  # by the user: settings.Change


@dataclass(frozen=True)
class Checkpoint:
    state: TrainingState
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


class _OtherRunError(InputError):
    """A checkpoint of another run, like all older ones beside it."""


class CheckpointFolder:
    """The checkpoints of one run, and the best weights so far.

    A thread writes the files in order while training continues. Training waits only if two files,
    an epoch's best weights and its checkpoint, are still to be written. A later call raises the
    thread's error.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: deque[Future[None]] = deque()

    def save(self, checkpoint: Checkpoint) -> None:
        """Start writing a checkpoint, which replaces the oldest one."""
        state = replace(checkpoint.state, changes=list(checkpoint.state.changes))
        self._begin(self._save, replace(checkpoint, state=state))

    def flush(self) -> None:
        while self._writing:
            self._writing.popleft().result()

    def _begin(self, write: Callable[..., None], *what: Any) -> None:
        while len(self._writing) == _MOST_WRITING or (self._writing and self._writing[0].done()):
            self._writing.popleft().result()
        before = self._writing[-1] if self._writing else None

        def in_turn() -> None:
            # If the best weights could not be written, their checkpoint must not be either.
            if before is not None:
                before.result()
            write(*what)

        self._writing.append(self._thread.submit(in_turn))

    def _save(self, checkpoint: Checkpoint) -> None:
        target = self.folder / f"{_PREFIX}{checkpoint.state.step:09d}"
        with folder_writer(target) as temporary:
            write_weights(temporary / _WEIGHTS, checkpoint.weights)
            write_weights(temporary / _OPTIMIZER, checkpoint.optimizer)
            write_json(temporary / _STATE, asdict(checkpoint.state))
        for old in self._found()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        self._prune_best(checkpoint.state.best_epoch)

    def latest(self, identity: str, tell: Callable[[str], None]) -> Checkpoint | None:
        """Return the newest undamaged checkpoint, or None if there is none."""
        self.flush()
        # Complete or remove checkpoints whose writing was killed.
        for name in {path.name.split(".")[1] for path in self.folder.glob(f".{_PREFIX}*")}:
            remove_leftovers(self.folder / name)
        found = self._found()
        for path in reversed(found):
            try:
                return self._read(path, identity)
            except _OtherRunError:
                raise
            except InputError as error:
                if path == found[0]:
                    advice = f"Remove {self.folder} to start again."
                    raise InputError(f"{error.message} {advice}") from error
                tell(f"{error.message} Resuming from the checkpoint before it.")
        return None

    def _read(self, path: Path, identity: str) -> Checkpoint:
        state = _read_state(path / _STATE)
        if state.identity != identity:
            raise _OtherRunError(
                f"{path} was saved with another recipe, dataset or code version of the model. "
                "Resume with the original settings, or choose another --output."
            )
        if state.best_epoch and not self._best(state.best_epoch).is_file():
            raise InputError(f"{self._best(state.best_epoch)} is missing.")
        return Checkpoint(state, read_weights(path / _WEIGHTS), read_weights(path / _OPTIMIZER))

    def save_best(self, weights: dict[str, Tensor], epoch: int) -> None:
        """Start writing the best weights so far; those that a checkpoint names are kept."""
        self._begin(self._save_best, weights, epoch)

    def _save_best(self, weights: dict[str, Tensor], epoch: int) -> None:
        path = self._best(epoch)
        with disk_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.new")
            write_weights(temporary, weights)
            sync(temporary)
            temporary.replace(path)
            sync(self.folder)
        self._prune_best(epoch)

    def best(self, epoch: int) -> dict[str, Tensor]:
        self.flush()
        return read_weights(self._best(epoch))

    def _best(self, epoch: int) -> Path:
        # One file per epoch: a run killed between saving better weights and saving the checkpoint
        # that names them resumes with the earlier weights.
        return self.folder / f"{_BEST_PREFIX}{epoch:05d}.safetensors"

    def _prune_best(self, epoch: int) -> None:
        named = {self._best(epoch)}
        for path in self._found():
            with contextlib.suppress(InputError):
                named.add(self._best(_read_state(path / _STATE).best_epoch))
        for path in self.folder.glob(f"{_BEST_PREFIX}*.safetensors"):
            if path not in named:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        self.flush()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}*"))


def _read_state(path: Path) -> TrainingState:
    values: Any = read_json(path)
    known = {field.name for field in fields(TrainingState)}
    if not isinstance(values, dict) or set(values) != known:
        raise InputError(f"{path} is damaged or from another version of sentikit.")
    return TrainingState(**values)
