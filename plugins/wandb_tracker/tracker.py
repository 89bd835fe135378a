"""Runs in Weights & Biases, online or in files to sync later.

See https://docs.wandb.ai/ref/python/init and .../ref/python/run.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sentikit import InputError
from sentikit.extension import (
    ComponentSettings,
    TrackedRun,
    Tracker,
    flat_numbers,
    read_json,
    write_json,
)

if TYPE_CHECKING:
    from wandb import Run

_INSTALL = "pip install 'sentikit[wandb]'"
_CREDENTIALS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
#: A file beside the manifest with the run's id in W&B, for resuming.
_IDENTITY = "wandb.json"
_LONGEST_TITLE = 63


class WandbTracker(Tracker):
    """Weights & Biases; the key comes from WANDB_API_KEY or ``wandb login``."""

    class Settings(ComponentSettings):
        """Settings of ``wandb``."""

        project: str = Field("sentikit", min_length=1, description="the W&B project")
        entity: str | None = Field(None, description="user or team; null: your default")
        run_name: str | None = Field(None, description="null: the name of the run's folder")
        mode: Literal["online", "offline"] | None = Field(
            None, description="offline keeps files for `wandb sync`; null: WANDB_MODE, or online"
        )
        alerts: bool = Field(True, description="send alerts: collapse, NaN, early stop, the end")

    settings: Settings

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        _check_package()
        if self._mode == "online":
            _check_credentials()
        self._run: Run | None = None

    @property
    def _mode(self) -> str:
        return self.settings.mode or os.environ.get("WANDB_MODE", "online")

    def start(self, run: TrackedRun) -> None:
        """Open the run in W&B, or resume it."""
        import wandb

        # The git state of the working folder is unrelated to an installed program's run.
        quiet = wandb.Settings(console="off", quiet=True, disable_git=True, disable_code=True)
        self._run = wandb.init(
            project=self.settings.project,
            entity=self.settings.entity,
            name=self.settings.run_name or run.name,
            id=_identity(run.path),
            resume="allow",
            job_type=run.kind,
            config=dict(run.recipe),
            # W&B's service may have been started in another working folder.
            dir=run.path.resolve(),
            mode=self.settings.mode,
            settings=quiet,
        )
        # W&B's step must not decrease, but does when a run resumes from a checkpoint.
        self._run.define_metric("*", step_metric="step")

    def log(self, record: Mapping[str, Any]) -> None:
        """Log a record's numbers as ``kind/key``."""
        numbers = {key: value for key, value in record.items() if key != "step"}
        values = flat_numbers(numbers, record["kind"])
        if "step" in record:
            values["step"] = record["step"]
        if self._run is not None:
            self._run.log(values)

    def alert(self, title: str, text: str) -> None:
        """Send an alert, by mail or Slack, as configured in W&B."""
        if self._run is not None and self.settings.alerts:
            self._run.alert(title[:_LONGEST_TITLE], text)

    def finish(self, metrics: Mapping[str, Any], status: str) -> None:
        """Write the scores into the summary and close the run."""
        if self._run is None:
            return
        scores = flat_numbers(metrics, "result")
        self._run.summary.update({k: v for k, v in scores.items() if "/confusion/" not in k})
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status == "finished" else 1)


def _identity(folder: Path) -> str:
    """Return the run's id in W&B; a new one is stored first."""
    path = folder / _IDENTITY
    if not path.exists():
        write_json(path, {"id": uuid.uuid4().hex[:8]})
    return str(read_json(path)["id"])


def _check_package() -> None:
    found = importlib.util.find_spec("wandb")
    # W&B leaves folders named wandb, which Python can import as packages.
    if found is None or found.origin is None:
        raise InputError(f"the tracker wandb needs the package wandb. Install it with: {_INSTALL}")


def _check_credentials() -> None:
    """Check that W&B will not ask for a key or refuse the run once training starts."""
    if any(os.environ.get(variable) for variable in _CREDENTIALS):
        return
    import wandb

    try:
        signed_in = wandb.login(prompt=False, verify=False)
    except TypeError as error:
        raise InputError(
            f"the tracker wandb needs wandb 0.31 or newer. Install it with: {_INSTALL} --upgrade"
        ) from error
    if not signed_in:
        raise InputError(
            "There is no key for W&B. Set WANDB_API_KEY, run `wandb login`, or set mode: offline."
        )
