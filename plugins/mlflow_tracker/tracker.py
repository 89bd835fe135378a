"""MLflow runs by https://mlflow.org/docs/latest/ml/tracking/, models as pyfunc from code."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sentikit import InputError
from sentikit.extension import ComponentSettings, TrackedRun, Tracker, flat_numbers, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Most characters of a parameter's value that MLflow accepts.
_LONGEST_VALUE = 6000
_METRICS_AT_ONCE = 1000
#: MLflow's names of the ways a run ends.
_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MlflowTracker(Tracker):
    """Parameters, metrics, alerts and the trained model of a run."""

    class Settings(ComponentSettings):
        """Where runs are kept, and what is logged."""

        experiment: str = Field("sentikit", description="the experiment's name")
        tracking_uri: str | None = Field(
            None, description="where runs are kept; default: MLFLOW_TRACKING_URI"
        )
        log_model: bool = Field(True, description="whether the model is logged as a pyfunc")

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        if importlib.util.find_spec("mlflow") is None:
            raise InputError(
                "the tracker mlflow needs the package mlflow-skinny. "
                "Install it with: pip install 'sentikit[mlflow]'"
            )
        # Nobody asked for usage data to be sent (https://mlflow.org/docs/latest/community/usage-tracking).
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._client: MlflowClient | None = None
        self._id = ""
        self._step = 0
        self._path = Path()

    def start(self, run: TrackedRun) -> None:
        """Create the run, with the recipe as its parameters."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        assert isinstance(self.settings, self.Settings)
        client = self._client = MlflowClient(self.settings.tracking_uri)
        found = client.get_experiment_by_name(self.settings.experiment)
        experiment = (
            client.create_experiment(self.settings.experiment)
            if found is None
            else found.experiment_id
        )
        tags = {"sentikit.kind": run.kind, "sentikit.path": str(run.path)}
        self._id = client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        self._step, self._path = run.step, run.path
        values = _flat(run.recipe)
        with self._failing():
            for start in range(0, len(values), 100):
                part = values[start : start + 100]
                client.log_batch(self._id, params=[Param(k, v[:_LONGEST_VALUE]) for k, v in part])

    def log(self, record: Mapping[str, Any]) -> None:
        """Log a record's numbers as ``kind/key``; records without a step are counted."""
        self._step = record.get("step", self._step + 1)
        numbers = {key: value for key, value in record.items() if key != "step"}
        with self._failing():
            self._log_numbers(flat_numbers(numbers, record["kind"]))

    def alert(self, title: str, text: str) -> None:
        """Set the run's description."""
        if self._client is not None:
            self._client.set_tag(self._id, "mlflow.note.content", f"**{title}** {text}")

    def finish(self, metrics: Mapping[str, Any], status: str) -> None:
        """Log the scores and the model, and end the run."""
        if self._client is None:
            return
        scores = flat_numbers(metrics, "result")
        assert isinstance(self.settings, self.Settings)
        with self._failing():
            self._log_numbers({k: v for k, v in scores.items() if "/confusion/" not in k})
            if status == "finished" and self.settings.log_model:
                self._log_model()
        self._client.set_terminated(self._id, _STATUS.get(status, "FAILED"))

    def _log_model(self) -> None:
        if self._client is None or not (self._path / "model").is_dir():
            return
        with tempfile.TemporaryDirectory(prefix="sentikit-") as folder:
            model = Path(folder) / "model"
            save_pyfunc(self._path / "model", model)
            self._client.log_artifacts(self._id, str(model), "model")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """End MLflow's run as failed, with the reason, if the tracker itself fails.

        After an error no other method is called, and MLflow would show the run as running for ever.
        """
        try:
            yield
        except (Exception, SystemExit) as error:
            reason = redacted(f"{type(error).__name__}: {error}")
            # If MLflow cannot be reached, this fails for the same reason.
            with suppress(Exception):
                self.alert("The tracker mlflow failed", reason)
                if self._client is not None:
                    self._client.set_terminated(self._id, "FAILED")
            raise

    def _log_numbers(self, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if self._client is None:
            return
        now = int(time.time() * 1000)
        logged = [Metric(name, value, now, self._step) for name, value in numbers.items()]
        for start in range(0, len(logged), _METRICS_AT_ONCE):
            self._client.log_batch(self._id, metrics=logged[start : start + _METRICS_AT_ONCE])


def save_pyfunc(model: Path, folder: Path) -> None:
    """Write a model folder as an MLflow pyfunc model, without pickled files.

    Its signature names the columns of the output, which Spark needs to return them all.

    Args:
        model: anything that `sentikit.load` takes.
        folder: of the MLflow model; it must not exist.
    """
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    from sentikit import __version__, load

    columns: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, "predicted_label")]
    columns += [
        ColSpec(DataType.double, f"probability_{label}")
        for label in load(model, device="cpu").labels
    ]
    pyfunc.save_model(
        str(folder),
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={"model": str(model.resolve())},
        signature=ModelSignature(outputs=Schema(columns)),
        pip_requirements=[f"sentikit=={__version__}"],
    )


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    flat = []
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            flat += _flat(value, f"{name}.")
        else:
            flat.append((name, str(value)))
    return flat
