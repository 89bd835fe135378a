"""TensorBoard files, by https://docs.pytorch.org/docs/stable/tensorboard.html."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sentikit import InputError
from sentikit.extension import ComponentSettings, TrackedRun, Tracker, flat_numbers

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: Inside the run's folder; `tensorboard --logdir runs` finds all runs.
_FOLDER = "tensorboard"


class TensorboardTracker(Tracker):
    """A tracker that writes scalars, the recipe and alerts for TensorBoard."""

    class Settings(ComponentSettings):
        """No settings."""

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        if importlib.util.find_spec("tensorboard") is None:
            raise InputError(
                "the tracker tensorboard needs the package tensorboard. "
                "Install it with: pip install 'sentikit[tensorboard]'"
            )
        self._writer: SummaryWriter | None = None
        self._step = 0

    def start(self, run: TrackedRun) -> None:
        """Open the files; earlier records of later steps are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self._step = run.step
        self._writer = SummaryWriter(run.path / _FOLDER, purge_step=run.step + 1)
        self._add_text("recipe", f"```json\n{json.dumps(dict(run.recipe), indent=2)}\n```")

    def log(self, record: Mapping[str, Any]) -> None:
        """Add a record's numbers as ``kind/key``; records without a step are counted."""
        self._step = record.get("step", self._step + 1)
        numbers = {key: value for key, value in record.items() if key != "step"}
        self._add_numbers(flat_numbers(numbers, record["kind"]))

    def alert(self, title: str, text: str) -> None:
        """Add a text."""
        self._add_text("alerts", f"**{title}** {text}")

    def finish(self, metrics: Mapping[str, Any], status: str) -> None:
        """Add the scores and close the files."""
        scores = flat_numbers(metrics, "result")
        self._add_numbers({k: v for k, v in scores.items() if "/confusion/" not in k})
        self._add_text("status", status)
        if self._writer is not None:
            self._writer.close()

    def _add_numbers(self, numbers: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, self._step)

    def _add_text(self, name: str, text: str) -> None:
        if self._writer is not None:
            self._writer.add_text(name, text, self._step)
