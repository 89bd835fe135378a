"""Trackers: they get the whole run, are off by default, and never disturb it."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import sentikit.extension as toolkit
from sentikit import SentikitError, hookimpl
from sentikit.cli import sentikit
from sentikit.plugin_sources import PluginSource, installed_plugins
from sentikit.recipe.resolving import resolve_recipe
from sentikit.registry import Registry, default_registry
from sentikit.stopping import Interrupted
from sentikit.tracking import TrackedRun
from sentikit.training.job import JobOptions, train
from sentikit.training.recipe import train_components

KEY = "0123456789abcdef0123456789abcdef01234567"
OFFLINE = "trackers=[{name: wandb, mode: offline}]"


class Diary(toolkit.Tracker):
    """A tracker that records its calls, and fails where a test wants it to."""

    class Settings(toolkit.ComponentSettings):
        """Settings of ``diary``."""

        fails_at: str = ""

    settings: Settings
    recorded: list[tuple[Any, ...]] = []

    def _note(self, *what: Any) -> None:
        Diary.recorded.append(what)
        if self.settings.fails_at == what[0]:
            raise SystemExit(f"the service refused the key {KEY}")

    def start(self, run: toolkit.TrackedRun) -> None:
        self._note("start", run)

    def log(self, record: Mapping[str, Any]) -> None:
        self._note("log", dict(record))

    def alert(self, title: str, text: str) -> None:
        self._note("alert", title, text)

    def finish(self, metrics: Mapping[str, Any], status: str) -> None:
        self._note("finish", metrics, status)


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's own W&B account out of the tests."""
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    Diary.recorded = []


@pytest.fixture
def registry() -> Registry:
    """The installed plugins and one more, with the tracker ``diary``."""

    def register_trackers(register: Any) -> None:
        register("diary", Diary)

    plugin = SimpleNamespace(register_trackers=hookimpl(register_trackers))
    source = PluginSource("diary", "test", "0", "test", lambda: plugin)
    return Registry([*installed_plugins(), source])


def run_command(recipe: Path, *settings: str, extra: tuple[str, ...] = ()) -> Result:
    arguments = ["train", "--recipe", str(recipe), "--output", "run", *extra]
    for setting in settings:
        arguments += ["--set", setting]
    return CliRunner().invoke(sentikit, arguments)


def run_diary(registry: Registry, recipe: Path, *settings: str, **options: Any) -> None:
    chosen = ["trackers=diary", *settings]
    parts = train_components(resolve_recipe(str(recipe), chosen, registry), registry)
    train(parts, Path("run"), JobOptions(**options))


def eight_steps_done() -> bool:
    """Ask to stop after 8 steps, in the middle of the second epoch."""
    return log()[-1]["step"] >= 8


def alerts() -> list[str]:
    return [what[1] for what in Diary.recorded if what[0] == "alert"]


def log(run: Path = Path("run")) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_tracker_is_called_from_the_start_of_a_run_to_its_end(
    registry: Registry, tiny_recipe: Path
) -> None:
    run_diary(registry, tiny_recipe)
    kinds = [what[0] for what in Diary.recorded]
    assert kinds == ["start", *["log"] * len(log()), "alert", "finish"]
    run = Diary.recorded[0][1]
    assert (run.kind, run.path, run.name, run.step) == ("train", Path("run"), "run", 0)
    assert run.recipe["training"]["epochs"] == 2
    assert [what[1] for what in Diary.recorded if what[0] == "log"] == log()
    assert {record["kind"] for record in log()} == {"step", "epoch"}
    assert alerts() == ["Run finished"]
    assert "macro-F1" in Diary.recorded[-2][2]
    _, metrics, status = Diary.recorded[-1]
    assert status == "finished"
    assert json.loads(json.dumps(metrics)) == json.loads(Path("run/metrics.json").read_text())


def test_early_stop_is_an_alert(registry: Registry, tiny_recipe: Path) -> None:
    run_diary(registry, tiny_recipe, "training.early_stopping.target=0.0")
    assert alerts() == ["Early stop", "Run finished"]


def test_nan_and_failure_are_alerts(registry: Registry, tiny_recipe: Path) -> None:
    with pytest.raises(SentikitError):
        run_diary(registry, tiny_recipe, "training.lr=1e30", "training.warmup=0")
    assert alerts() == ["The loss is NaN", "Run failed"]
    assert Diary.recorded[-1] == ("finish", {}, "failed")


def test_a_collapse_is_an_alert(
    registry: Registry, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Five epochs learn; then the rate is raised so high that all is forgotten.
    monkeypatch.setattr("sys.stdin", io.StringIO("continue 4\nlr 1\ncontinue\n"))
    settings = ("training.epochs=7", "training.lr=3e-3")
    run_diary(registry, tiny_recipe, *settings, interactive=True)
    assert set(alerts()) == {"Training collapsed", "Run finished"}
    logged = [what[1] for what in Diary.recorded if what[0] == "log"]
    assert [record["lr"] for record in logged if record["kind"] == "change"] == [1]


def test_an_interrupted_run_ends_without_an_alert_and_resumes(
    registry: Registry, tiny_recipe: Path
) -> None:
    with pytest.raises(Interrupted):
        run_diary(registry, tiny_recipe, stop_requested=eight_steps_done)
    assert alerts() == []
    assert Diary.recorded[-1] == ("finish", {}, "interrupted")
    Diary.recorded.clear()
    run_diary(registry, tiny_recipe, resume=True)
    assert Diary.recorded[0][1].step == 8
    assert Diary.recorded[-1][2] == "finished"


@pytest.mark.parametrize("place", ["start", "log", "alert", "finish"])
def test_a_tracker_that_raises_is_disabled_and_training_continues(
    place: str,
    registry: Registry,
    tiny_recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIARY_API_KEY", KEY)
    run_diary(registry, tiny_recipe, f"trackers=[{{name: diary, fails_at: {place}}}]")
    assert json.loads(Path("run/manifest.json").read_text())["status"] == "finished"
    assert Diary.recorded[-1][0] == place
    messages = [line for line in capsys.readouterr().err.splitlines() if "diary" in line]
    assert messages == [
        "The tracker 'diary' failed and is switched off; the run continues. "
        "SystemExit: the service refused the key [DIARY_API_KEY]"
    ]


def test_trackers_change_nothing_and_may_be_added_on_resume(
    registry: Registry, tiny_recipe: Path
) -> None:
    with pytest.raises(Interrupted):
        run_diary(registry, tiny_recipe, "trackers=[]", stop_requested=eight_steps_done)
    assert Diary.recorded == []
    run_diary(registry, tiny_recipe, resume=True)
    assert Diary.recorded[-1][2] == "finished"
    tracked = Path("run").rename("tracked")
    run_diary(registry, tiny_recipe, "trackers=[]")
    assert [record.get("loss") for record in log()] == [r.get("loss") for r in log(tracked)]


def test_all_errors_of_trackers_are_reported_at_once(tiny_recipe: Path) -> None:
    wrong = "trackers=[wandbb, {name: wandb, projct: mine}, 3, tensorboard, tensorboard]"
    result = run_command(tiny_recipe, wrong)
    assert result.exit_code == 2
    assert "4 problems" in result.stderr
    assert "no tracker named 'wandbb'. Did you mean 'wandb'?" in result.stderr
    assert "trackers.1.projct: unknown key. Did you mean 'project'?" in result.stderr
    assert "trackers.2: must be a tracker's name or section, not 3." in result.stderr
    assert "trackers.4.name: 'tensorboard' is listed twice." in result.stderr
    assert not Path("run").exists()


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_trackers_missing_package_is_reported_before_training(
    name: str, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, name, None)
    result = run_command(tiny_recipe, f"trackers={name}")
    assert result.exit_code == 2
    assert f"pip install 'sentikit[{name}]'" in result.stderr
    assert not Path("run").exists()


def test_wandb_without_a_key_is_reported_before_training(tiny_recipe: Path) -> None:
    pytest.importorskip("wandb")
    result = run_command(tiny_recipe, "trackers=wandb")
    assert result.exit_code == 2
    assert "WANDB_API_KEY" in result.stderr
    assert "mode: offline" in result.stderr


def wandb_records(folder: Path) -> Iterator[Any]:
    """Read an offline run: LevelDB's log format with a header of 7 bytes, W&B's own messages.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # Its own process has written everything when this returns.
    (path,) = folder.glob("run-*.wandb")
    data, position, message = path.read_bytes(), 7, b""
    while position < len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        message += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # A whole message, or the last part of one.
            yield Record.FromString(message)
            message = b""


def wandb_history(folder: Path) -> list[dict[str, Any]]:
    records = [r.history for r in wandb_records(folder) if r.WhichOneof("record_type") == "history"]
    return [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.item}
        for record in records
    ]


def test_wandb_offline_files_contain_the_log_and_no_key(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    result = run_command(tiny_recipe, OFFLINE)
    assert result.exit_code == 0, result.output
    (folder,) = Path("run/wandb").glob("offline-run-*")
    history = wandb_history(folder)
    for kind, value in (("step", "loss"), ("step", "lr"), ("epoch", "validation_macro_f1")):
        name = f"{kind}/{value}"
        shown = [(row["step"], row[name]) for row in history if name in row]
        assert shown == [(r["step"], r[value]) for r in log() if r["kind"] == kind]
    records = list(wandb_records(folder))
    run = next(r.run for r in records if r.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name, run.job_type) == ("sentikit", "run", "train")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["training"] == {"epochs": 2, "batch_size": 16, "lr": 1e-3, "log_every": 1}
    alerts = [r.alert for r in records if r.WhichOneof("record_type") == "alert"]
    assert [alert.title for alert in alerts] == ["Run finished"]
    assert next(r.exit for r in records if r.WhichOneof("record_type") == "exit").exit_code == 0
    summary = {
        item.key: json.loads(item.value_json)
        for r in records
        if r.WhichOneof("record_type") == "summary"
        for item in r.summary.update
    }
    overall = json.loads(Path("run/metrics.json").read_text())["overall"]
    assert summary["result/overall/macro_f1"] == overall["macro_f1"]
    assert KEY not in result.output
    assert not [p for p in Path("run").rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def test_a_resumed_run_stays_one_run_in_wandb(tiny_recipe: Path) -> None:
    pytest.importorskip("wandb")
    parts = [
        train_components(resolve_recipe(str(tiny_recipe), [OFFLINE]), toolkit_registry())
        for _ in range(2)
    ]
    with pytest.raises(Interrupted):
        train(parts[0], Path("run"), JobOptions(stop_requested=eight_steps_done))
    train(parts[1], Path("run"), JobOptions(resume=True))
    segments = sorted(Path("run/wandb").glob("offline-run-*"))
    assert len(segments) == 2
    identity = json.loads(Path("run/wandb.json").read_text())["id"]
    # W&B numbers what starts within the same second: offline-run-TIME-ID, offline-run-TIME-ID-1.
    assert {segment.name.split("-")[3] for segment in segments} == {identity}
    steps = [row["step"] for s in segments for row in wandb_history(s) if "step/loss" in row]
    assert steps == [record["step"] for record in log() if record["kind"] == "step"]


def test_wandb_alerts_can_be_disabled(tiny_recipe: Path) -> None:
    pytest.importorskip("wandb")
    run_command(tiny_recipe, "trackers={name: wandb, mode: offline, alerts: false}")
    (folder,) = Path("run/wandb").glob("offline-run-*")
    kinds = [record.WhichOneof("record_type") for record in wandb_records(folder)]
    assert "history" in kinds
    assert "alert" not in kinds


def test_tensorboard_hides_the_steps_of_a_run_that_was_killed_before_it_saved(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker_class = default_registry().load("register_trackers", "tensorboard")
    for loss in (1.0, 2.0):
        tracker = tracker_class(tracker_class.Settings())
        tracker.start(TrackedRun("train", tmp_path, {}))
        tracker.log({"kind": "step", "step": 10, "loss": loss})
        tracker.finish({}, "finished")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("step/loss")] == [(10, 2.0)]


def test_tensorboard_still_shows_the_log_after_a_resume(tiny_recipe: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = ["trackers=tensorboard"]
    parts = [
        train_components(resolve_recipe(str(tiny_recipe), settings), toolkit_registry())
        for _ in range(2)
    ]
    with pytest.raises(Interrupted):
        train(parts[0], Path("run"), JobOptions(stop_requested=eight_steps_done))
    train(parts[1], Path("run"), JobOptions(resume=True))
    events = EventAccumulator("run/tensorboard").Reload()
    for kind, value in (("step", "loss"), ("epoch", "validation_loss")):
        shown = [(event.step, event.value) for event in events.Scalars(f"{kind}/{value}")]
        wanted = [(r["step"], r[value]) for r in log() if r["kind"] == kind]
        assert np.allclose(shown, wanted)
    overall = json.loads(Path("run/metrics.json").read_text())["overall"]
    (value,) = events.Scalars("result/overall/macro_f1")
    assert value.value == pytest.approx(overall["macro_f1"])
    texts = events.Tags()["tensors"]
    assert {"recipe/text_summary", "alerts/text_summary", "status/text_summary"} <= set(texts)


def toolkit_registry() -> Registry:
    from sentikit.registry import default_registry

    return default_registry()


def test_numbers_of_records_are_flattened_and_other_values_omitted() -> None:
    values = {"a": {"b": 1, "c": {"d": 0.5}}, "text": "x", "yes": True, "none": None, "list": [1]}
    assert toolkit.flat_numbers(values) == {"a/b": 1, "a/c/d": 0.5}
    assert toolkit.flat_numbers({"loss": 1.0}, "step") == {"step/loss": 1.0}
