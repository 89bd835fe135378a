"""Fine-tuning at services that are not exactly OpenAI: odd lists, jobs, events and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from finetuning_server import STEPS, RunningService, fine_tuning_service

from sentikit import InputError, SentikitError
from sentikit.extension import FineTunedModel, FineTuningJob
from sentikit.finetuning.recipe import fine_tuner_class
from sentikit.registry import default_registry

Change = Callable[[Any], Any]


@dataclass
class Session:
    """What a fine-tuner is lent, in memory."""

    messages: list[str] = field(default_factory=list)
    records: list[Mapping[str, Any]] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    def say(self, message: str) -> None:
        self.messages.append(message)

    def alert(self, title: str, text: str) -> None:
        self.messages.append(text)

    def record(self, record: Mapping[str, Any]) -> None:
        json.dumps(record, allow_nan=False)
        self.records.append(record)

    def rewind(self, step: int, epochs: int = 0) -> None:
        return

    def recall(self, key: str) -> Any:
        return self.memory.get(key)

    def remember(self, key: str, value: Any) -> None:
        self.memory[key] = json.loads(json.dumps(value))

    def stop_requested(self) -> bool:
        return False


def learn(
    service: RunningService, folder: Path, session: Session | None = None, **settings: Any
) -> FineTunedModel:
    """Teach ten examples and return the model."""
    train = folder / "train.jsonl"
    train.write_text('{"messages": []}\n' * 10)
    tuner_class = fine_tuner_class("openai", default_registry())
    asked = {"model": "m", "base_url": service.url, "poll_seconds": 0.01, "patience": 0.5}
    tuner = tuner_class(tuner_class.Settings(**(asked | settings)))
    job = FineTuningJob(folder, train, None, ("negative", "positive"), "abc123")
    found = tuner.run(job, session or Session())
    assert found is not None
    return found


def instead(value: Any) -> Change:
    return lambda _: value


def response(**values: Any) -> Change:
    # A new one for each request: aiohttp sends nothing for a response that was sent before.
    return lambda _: web.Response(**values)


def with_keys(**keys: Any) -> Change:
    return lambda answer: {**answer, **keys}


def without(key: str) -> Change:
    return lambda answer: {name: value for name, value in answer.items() if name != key}


def at_first(change: Change, times: int = 1) -> Change:
    """Change the first answers alone."""
    left = [times]

    def changed(answer: Any) -> Any:
        left[0] -= 1
        return change(answer) if left[0] >= 0 else answer

    return changed


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("listed", instead({"object": "list", "data": None})),
        ("listed", instead({"data": ["job", None, 7, {"metadata": "mine"}], "has_more": True})),
        ("listed", instead({"data": "none", "has_more": "maybe"})),
        ("listed", instead([])),
        ("look", at_first(instead({}))),
        ("look", at_first(instead([{"id": "ftjob-0"}]))),
        ("look", at_first(instead("please wait"))),
        ("look", at_first(with_keys(status=None))),
        ("look", at_first(with_keys(status={"state": "running"}))),
        ("look", with_keys(metadata=None, result_files=None, hyperparameters="auto", method=None)),
        ("look", with_keys(method={"supervised": "yes"}, result_files=[None, {"id": "file-0"}])),
        ("look", with_keys(error="", trained_tokens="many", result_files=["../../etc/passwd"])),
        ("events", instead({"data": None})),
        ("events", instead({"data": [None, "started", {"id": 7}, {}], "has_more": False})),
        ("events", instead({"data": [{"type": "metrics", "data": "step 1"}], "has_more": True})),
        ("events", instead({"data": [{"id": "e", "created_at": "now", "message": None}]})),
        ("checkpoints", instead({"data": [{"step_number": None, "metrics": 3}, None]})),
        ("checkpoints", response(status=404, text="<h1>no such page</h1>")),
        ("content", response(status=500, text="lost")),
        ("create", at_first(instead({"ok": True}))),
        ("create", at_first(instead(None))),
        ("upload", without("status")),
    ],
)
def test_unreadable_responses_do_not_fail_the_run_or_start_a_second_job(
    where: str, change: Change, tmp_path: Path
) -> None:
    with fine_tuning_service(changes={where: change}) as service:
        found = learn(service, tmp_path)
        assert len(service.server.jobs) == 1
    assert str(found.model).startswith("ft:m:us::")
    json.dumps(found.metrics, allow_nan=False)
    assert {path.name for path in tmp_path.iterdir()} <= {"train.jsonl", "results"}


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("upload", instead({"object": "file"}), r"received train.jsonl but created no file"),
        ("upload", instead("stored"), r"received train.jsonl but created no file"),
        (
            "upload",
            with_keys(status="error", status_details="row 3 is no JSON"),
            r"created no file \(row 3 is no JSON\)",
        ),
        ("look", instead({"detail": "moved"}), r"cannot be read.*--resume"),
        ("look", with_keys(fine_tuned_model=None), r"does not name its model. Check again"),
        ("look", with_keys(status="failed", error=["bad"]), r"failed: no reason given"),
        ("look", with_keys(status="failed", error="too short"), r"failed: too short"),
        (
            "create",
            response(status=422, text='{"detail": [{"msg": "no such base"}]}'),
            r"refused the request .422.*No job was started",
        ),
        (
            "create",
            response(status=403, text='["not", "allowed"]'),
            r"does not let this key's organisation fine-tune",
        ),
        ("listed", response(status=401, text="<p>who are you?</p>"), r"key"),
    ],
)
def test_a_response_that_ends_the_job_is_explained_in_one_sentence(
    where: str, change: Change, message: str, tmp_path: Path
) -> None:
    with fine_tuning_service(changes={where: change}) as service:
        with pytest.raises((SentikitError, InputError), match=message):
            learn(service, tmp_path)
        assert len(service.server.jobs) <= 1


def test_a_job_accepted_without_an_id_is_not_started_again(tmp_path: Path) -> None:
    changes = {"create": instead({"ok": True}), "listed": instead([])}
    with fine_tuning_service(changes=changes) as service:
        with pytest.raises(SentikitError, match="does not name it"):
            learn(service, tmp_path)
        assert len(service.server.jobs) == 1


def test_a_model_that_the_job_names_late_is_found_on_resume(tmp_path: Path) -> None:
    session, unnamed = Session(), with_keys(fine_tuned_model="")
    with fine_tuning_service(changes={"look": unnamed}) as service:
        with pytest.raises(SentikitError, match="Check again with --resume"):
            learn(service, tmp_path, session)
        service.server.behave(changes={})
        assert str(learn(service, tmp_path, session).model).startswith("ft:m:")
        assert len(service.server.jobs) == 1


def test_malformed_numbers_are_omitted_from_the_learning_curve(tmp_path: Path) -> None:
    def odd(page: Any) -> Any:
        for event in page["data"]:
            if event["type"] == "metrics":
                event["data"] |= {"train_loss": "low", "valid_loss": True, "total_steps": None}
                event["data"]["full_valid_mean_token_accuracy"] = 10**400
        return page

    session = Session()
    with fine_tuning_service(changes={"events": odd}) as service:
        found = learn(service, tmp_path, session)
    curve = found.metrics["curve"]
    assert [point["step"] for point in curve] == list(range(1, STEPS + 1))
    assert {key for point in curve for key in point} == {"step", "accuracy", "full_validation_loss"}
