"""The tracker ``mlflow``: runs, metrics and models in a real MLflow store."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

pytestmark = [pytest.mark.slow, pytest.mark.posix, pytest.mark.filterwarnings("ignore")]


def test_mlflow_logs_training_and_its_model_loads_and_serves_without_pickle(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    import mlflow
    import pandas as pd
    from mlflow import MlflowClient

    import sentikit

    store = f"sqlite:///{tmp_path}/mlflow.db"
    trackers = f"trackers=[{{name: mlflow, tracking_uri: '{store}'}}]"
    train = [sys.executable, "-m", "sentikit", "train", "--recipe", str(tiny_recipe)]
    done = subprocess.run(
        [*train, "--output", "run", "--set", trackers],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("sentikit")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "2"
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert run.data.metrics["result/overall/macro_f1"] == pytest.approx(
        metrics["overall"]["macro_f1"]
    )
    (described,) = tmp_path.rglob("MLmodel")
    model = described.parent
    assert not [path for path in model.rglob("*") if path.suffix in (".pkl", ".pickle", ".bin")]
    texts = ["I love it", "not worth a cent"]
    loaded = mlflow.pyfunc.load_model(str(model))
    table = loaded.predict(pd.DataFrame({"text": texts}))
    assert list(table["predicted_label"]) == sentikit.load("run").predict(texts)
    # Spark gives only one number where the columns of the output are not declared.
    assert loaded.metadata.signature.outputs.input_names() == list(table.columns)
    empty = loaded.predict(pd.DataFrame({"text": [None, "I love it", " "]}))
    assert list(empty["predicted_label"].isna()) == [True, False, True]
    assert list(empty.iloc[1, 1:]) == pytest.approx(list(table.iloc[0, 1:]), abs=1e-5)
    assert empty.iloc[0].isna().all()
    assert _invoked(model, [*texts, ""]) == [*table["predicted_label"], None]


def _invoked(model: Path, texts: list[str]) -> list[str | None]:
    """Return the labels that `mlflow models serve` gives."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["models", "serve", "-m", str(model), "--env-manager", "local", "-p", str(port)]
    # It starts uvicorn by name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words],
        env=os.environ | {"PATH": path},
        start_new_session=True,
    )
    body = json.dumps({"dataframe_records": [{"text": text} for text in texts]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body, {"content-type": "application/json"}
    )
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(request) as answer:
                    rows = json.load(answer)["predictions"]
                    return [row["predicted_label"] for row in rows]
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the scoring server did not start")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
