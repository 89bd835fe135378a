"""Saves and finds the state of training, so that a killed run goes on to the same result.

A checkpoint is a folder of safetensors and JSON: whole weights, whole optimizer state, and where
training stands. Data order and dropout follow from seed, epoch, step and rank, so no generator
needs saving, and a checkpoint fits any number of processes.
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
from sentikit.files import (
    disk_errors,
    folder_writer,
    read_json,
    remove_leftovers,
    sync,
    write_json,
)
from sentikit.weights import read_weights, write_weights

if TYPE_CHECKING:
    from torch import Tensor


_PREFIX = "step-"
_STATE, _WEIGHTS, _OPTIMIZER = "state.json", "weights.safetensors", "optimizer.safetensors"
_BEST_PREFIX = "best-"
_MOST_WRITING = 2


@dataclass
class TrainingState:
    """Where training stands; `identity` hashes whatever must not change between parts of a run."""

    identity: str
    epoch: int = 0  # epochs done
    batch: int = 0  # batches done in the present epoch
    step: int = 0  # optimizer steps done
    best_value: float | None = None  # of the watched metric
    best_epoch: int = 0  # from 1
    highest_macro_f1: float = 0.0  # whichever metric is watched
    stopping_best: float | None = None  # what early stopping compares with
    stale_epochs: int = 0  # since it was reached
    plateau_factor: float = 1.0  # what reduce_on_plateau has made of the rate
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
    """The checkpoint is of another run: an older one would be, too."""


class CheckpointFolder:
    """The checkpoints of one run, and the best weights so far.

    Files are written in a thread, in order: training goes on meanwhile, and waits only before it
    would be two files ahead, an epoch's best weights and its checkpoint. An error of the thread
    comes out at a later call.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: deque[Future[None]] = deque()

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to write a checkpoint, which replaces the oldest ones."""
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
            # A checkpoint must not name best weights that could not be written.
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
        """Read the newest checkpoint that is whole, or return None where there is none."""
        self.flush()
        # Put back or remove what kills have left of writing checkpoints.
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
                    advice = f"Remove {self.folder} to begin anew."
                    raise InputError(f"{error.message} {advice}") from error
                tell(f"{error.message} Resuming from the checkpoint before it.")
        return None

    def _read(self, path: Path, identity: str) -> Checkpoint:
        state = _read_state(path / _STATE)
        if state.identity != identity:
            raise _OtherRunError(
                f"{path} was made with another recipe, dataset or code version of the "
                "model. Resume with the settings it was started with, or choose another --output."
            )
        if state.best_epoch and not self._best(state.best_epoch).is_file():
            raise InputError(f"{self._best(state.best_epoch)} is missing.")
        return Checkpoint(state, read_weights(path / _WEIGHTS), read_weights(path / _OPTIMIZER))

    def save_best(self, weights: dict[str, Tensor], epoch: int) -> None:
        """Begin to write the best weights so far; those a checkpoint names stay beside them."""
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
        # One file an epoch: a run killed after a better epoch, but before its checkpoint recorded
        # that epoch as the best, resumes with the weights that the checkpoint names.
        return self.folder / f"{_BEST_PREFIX}{epoch:05d}.safetensors"

    def _prune_best(self, epoch: int) -> None:
        """Remove best weights that neither `epoch` nor a checkpoint names."""
        named = {self._best(epoch)}
        for path in self._found():
            with contextlib.suppress(InputError):
                named.add(self._best(_read_state(path / _STATE).best_epoch))
        for path in self.folder.glob(f"{_BEST_PREFIX}*.safetensors"):
            if path not in named:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove everything; a finished run needs none of it."""
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
