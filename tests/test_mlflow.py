"""The tracker ``mlflow``: runs, metrics and models in a real MLflow store."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from sentikit.cli import sentikit as command_line

pytest.importorskip("mlflow")

SCALING = Path(__file__).parents[1] / "docs" / "scaling.md"
#: The page's lines on a local Spark with two Python workers.
SPARK_PROGRAM = """
import mlflow
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
reviews = spark.read.json("rows.json").repartition(2)
{code}
labelled.orderBy("id").toPandas().to_json("labelled.jsonl", orient="records", lines=True)
spark.stop()
"""

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
    train = ["train", "--recipe", str(tiny_recipe), "--output", "run", "--set", trackers]
    done = CliRunner().invoke(command_line, train)
    assert done.exit_code == 0, done.output
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


def test_a_run_ends_as_failed_in_mlflow_if_its_model_cannot_be_logged(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner
    from mlflow import MlflowClient

    from sentikit.cli import sentikit

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "taken").touch()
    monkeypatch.setenv("STORE_TOKEN", f"{tmp_path}/taken")
    experiment = client.create_experiment("sentikit", artifact_location=f"{tmp_path}/taken/models")
    trackers = f"trackers=[{{name: mlflow, tracking_uri: '{client.tracking_uri}'}}]"
    train = ["train", "--recipe", str(tiny_recipe), "--output", "run", "--set", trackers]
    done = CliRunner().invoke(sentikit, train)
    assert done.exit_code == 0, done.stderr
    assert "The tracker 'mlflow' failed and is switched off; the run continues." in done.stderr
    assert json.loads(Path("run/manifest.json").read_text())["status"] == "finished"
    assert Path("run/model").is_dir()
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FAILED"
    assert "result/overall/macro_f1" in run.data.metrics
    reason = run.data.tags["mlflow.note.content"]
    assert reason.startswith("**The tracker mlflow failed**")
    assert "[STORE_TOKEN]" in reason
    assert f"{tmp_path}/taken" not in reason


def test_an_interrupt_is_not_a_failure_of_mlflow_and_a_failing_store_says_its_own_reason(
    tmp_path: Path,
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sentikit.plugins.mlflow_tracker.tracker import MlflowTracker

    from sentikit.extension import TrackedRun

    class Interrupting(dict[str, float]):
        def items(self) -> NoReturn:
            raise KeyboardInterrupt

    store = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(store)
    tracker = MlflowTracker(MlflowTracker.Settings(tracking_uri=store))
    tracker.start(TrackedRun("train", tmp_path, {}))
    with pytest.raises(KeyboardInterrupt):
        tracker.log({"kind": "step", "loss": Interrupting()})
    (run,) = client.search_runs([client.get_experiment_by_name("sentikit").experiment_id])
    assert run.info.status == "RUNNING"
    assert "mlflow.note.content" not in run.data.tags
    client.delete_run(run.info.run_id)
    with pytest.raises(MlflowException) as failed:
        tracker.log({"kind": "step", "loss": 0.5})
    assert failed.value.__context__ is None


def test_spark_labels_a_table_with_the_logged_model(trained_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="Spark is not installed: pip install pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    from sentikit.plugins.mlflow_tracker.tracker import save_pyfunc

    import sentikit

    save_pyfunc(trained_run / "model", tmp_path / "logged")
    texts = ["I love it", "not worth a cent", None, "  ", "the table is blue"]
    (block,) = re.findall(r"^```\n(label = mlflow.*?)^```", SCALING.read_text(), re.M | re.S)
    code = block.replace("runs:/ID/model", str(tmp_path / "logged"))
    (tmp_path / "rows.json").write_text(
        "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts))
    )
    program = SPARK_PROGRAM.format(code=code)
    # Its workers are started by the name of this Python.
    environment = os.environ | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in Path("labelled.jsonl").read_text().splitlines()]
    classifier = sentikit.load(trained_run)
    expected = {i: text for i, text in enumerate(texts) if text and text.strip()}
    assert [(row["id"], row["text"]) for row in rows] == list(expected.items())
    assert [row["predicted_label"] for row in rows] == classifier.predict(expected.values())
    shares = [[row[f"probability_{label}"] for label in classifier.labels] for row in rows]
    proba = classifier.predict_proba(list(expected.values())).tolist()
    assert len(shares) == len(proba)
    for found, own in zip(shares, proba, strict=True):
        assert found == pytest.approx(own, abs=1e-5)


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
