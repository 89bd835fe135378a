"""Saves and finds the state of training, so that a killed run goes on to the same result.

A checkpoint is a folder of safetensors and JSON: whole weights, whole optimizer state, and where
training stands. Data order and dropout follow from seed, epoch, step and rank, so no generator
needs saving, and a checkpoint fits any number of processes.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.errors import InputError
from sentikit.files import disk_errors, folder_writer, read_json, sync, write_json
from sentikit.weights import read_weights, write_weights

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "step-"
_STATE, _WEIGHTS, _OPTIMIZER = "state.json", "weights.safetensors", "optimizer.safetensors"
_BEST = "best.safetensors"


@dataclass
class TrainingState:
    """Where training stands.

    Attributes:
        identity: hash of whatever must not change between the parts of a run.
        epoch: epochs done.
        batch: batches done in the present epoch.
        step: optimizer steps done.
        best_value: best value of the watched metric, or None.
        best_epoch: the epoch (from 1) it belongs to, or 0.
        highest_macro_f1: on validation so far, whichever metric is watched.
        stale_epochs: epochs since the best one.
        plateau_factor: what reduce_on_plateau has made of the rate.
        plateau_best: the value reduce_on_plateau compares with, or None.
        plateau_stale: evaluations since then.
        epoch_loss: sum of the batches' losses in the present epoch, up to the last log line.
        interval_loss: the same since the last log line.
        interval_steps: steps since then.
        seconds: time trained so far.
        stopped: why training ended before its last epoch, or "".
        changes: what the user changed on the way, see `interactive`.
    """

    identity: str
    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_value: float | None = None
    best_epoch: int = 0
    highest_macro_f1: float = 0.0
    stale_epochs: int = 0
    plateau_factor: float = 1.0
    plateau_best: float | None = None
    plateau_stale: int = 0
    epoch_loss: float = 0.0
    interval_loss: float = 0.0
    interval_steps: int = 0
    seconds: float = 0.0
    stopped: str = ""
    changes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A state with its tensors."""

    state: TrainingState
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


class CheckpointFolder:
    """The checkpoints of one run, and the best weights so far."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and remove the oldest ones.

        Raises:
            SentikitError: the disk is full or refuses; earlier checkpoints stay.
        """
        target = self.folder / f"{_PREFIX}{checkpoint.state.step:09d}"
        with folder_writer(target) as temporary:
            write_weights(temporary / _WEIGHTS, checkpoint.weights)
            write_weights(temporary / _OPTIMIZER, checkpoint.optimizer)
            write_json(temporary / _STATE, asdict(checkpoint.state))
        for old in self._found()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self, identity: str) -> Checkpoint | None:
        """Read the newest checkpoint, or return None.

        Raises:
            InputError: it belongs to another recipe, or its files are damaged.
        """
        found = self._found()
        if not found:
            return None
        state = _read_state(found[-1] / _STATE)
        if state.identity != identity:
            raise InputError(
                f"{found[-1]} was made with another recipe, dataset or code version of the "
                "model. Resume with the settings it was started with, or choose another --output."
            )
        return Checkpoint(
            state, read_weights(found[-1] / _WEIGHTS), read_weights(found[-1] / _OPTIMIZER)
        )

    def save_best(self, weights: dict[str, Tensor]) -> None:
        """Replace the best weights."""
        path = self.folder / _BEST
        with disk_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{_BEST}.new")
            write_weights(temporary, weights)
            sync(temporary)
            temporary.replace(path)
            sync(self.folder)

    def best(self) -> dict[str, Tensor]:
        """Read the best weights."""
        return read_weights(self.folder / _BEST)

    def clear(self) -> None:
        """Remove everything; a finished run needs none of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}*"))


def _read_state(path: Path) -> TrainingState:
    values: Any = read_json(path)
    known = {field.name for field in fields(TrainingState)}
    if not isinstance(values, dict) or set(values) != known:
        raise InputError(f"{path} is damaged or from another version of sentikit.")
    return TrainingState(**values)
