"""``sentikit gpt-finetune`` with the provider ``openai``, from data to a model that is prompted."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from finetune_recipes import rows, write_recipe
from finetuning_server import STEPS, RunningService, fine_tuning_service
from prompt_commands import Done, all_files, sentikit
from sentikit.plugins.openai_backend.finetuning_job import pause_after
from sentikit.plugins.plugin_kit.checks import check_fine_tuner

from sentikit.finetuning.recipe import fine_tuner_class
from sentikit.registry import default_registry

KEY = "sk-proj-" + "t34ch3r" * 6
NO_SERVER = "http://127.0.0.1:9/v1"


def fine_tune(service: RunningService, *arguments: str, **sections: Any) -> Done:
    """Write a recipe and run the command with it into ``runs/own``."""
    recipe = write_recipe(service.url, **sections)
    output = () if "--output" in arguments else ("--output", "runs/own")
    return sentikit("gpt-finetune", "--recipe", recipe, *output, *arguments, OPENAI_API_KEY=KEY)


def manifest(path: str = "runs/own") -> dict[str, Any]:
    return json.loads(Path(path, "manifest.json").read_text())  # type: ignore[no-any-return]


def log(kind: str) -> list[dict[str, Any]]:
    lines = Path("runs/own/log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


class TestPreparing:
    def test_prepare_writes_training_files_in_the_services_format(self) -> None:
        recipe = write_recipe(NO_SERVER)
        done = sentikit("gpt-finetune", "--recipe", recipe, "--prepare-only", "--output", "run")
        assert done.returncode == 0, done.stderr
        (first, *_) = Path("run/train.jsonl").read_text().splitlines()
        assert json.loads(first) == {
            "messages": [
                {
                    "role": "system",
                    "content": "You are a model that classifies the sentiment of a review as "
                    "either 'positive', 'neutral', or 'negative'.",
                },
                {"role": "user", "content": "I hate review number 0"},
                {"role": "assistant", "content": "negative"},
            ]
        }
        assert len(Path("run/validation.jsonl").read_text().splitlines()) == 6
        assert "12: negative 4, neutral 4, positive 4" in done.stdout
        assert manifest("run")["status"] == "prepared"

    def test_prepare_reports_duplicates_contradictions_and_shared_texts(self) -> None:
        train = [*rows(12), ("i LOVE  review number 2", "negative"), rows(12)[0]]
        recipe = write_recipe(NO_SERVER, splits={"train": train, "validation": train[:2]})
        done = sentikit(
            "gpt-finetune", "--recipe", recipe, "--prepare-only", "--json", "--output", "run"
        )
        report = json.loads(done.stdout)
        assert report["splits"]["train"]["duplicates"] == 2
        assert report["splits"]["train"]["contradictions"] == 1
        assert report["shared"] == 2

    def test_fine_tuning_works_with_any_strategy(self) -> None:
        recipe = write_recipe(NO_SERVER, strategy={"name": "zero-shot"})
        done = sentikit("gpt-finetune", "--recipe", recipe, "--prepare-only", "--output", "run")
        assert done.returncode == 0, done.stderr
        spoken = json.loads(Path("run/train.jsonl").read_text().splitlines()[0])["messages"]
        assert [message["role"] for message in spoken] == ["user", "assistant"]

    def test_a_strategy_sees_the_id_the_source_and_the_other_columns(self) -> None:
        lines = [f"r{n},{t},{c},shop,Title {n}" for n, (t, c) in enumerate(rows(12))]
        Path("own.csv").write_text("\n".join(["id,text,label,source,title", *lines]) + "\n")
        recipe = write_recipe(
            NO_SERVER,
            dataset={"name": "files", "train": "own.csv", "columns": ["title"]},
            strategy={"name": "template", "user": "{id} {source} {row.title}: {text}"},
            finetune={"validation": None},
        )
        done = sentikit("gpt-finetune", "--recipe", recipe, "--prepare-only", "--output", "run")
        assert done.returncode == 0, done.stderr
        first = json.loads(Path("run/train.jsonl").read_text().splitlines()[0])["messages"]
        assert first[-2]["content"] == "r0 shop Title 0: I hate review number 0"

    def test_an_advisers_results_file_may_have_ids_without_texts(self) -> None:
        Path("own.csv").write_text(
            "id,text,label\n" + "".join(f"r{n},{t},{c}\n" for n, (t, c) in enumerate(rows(12)))
        )
        lines = "".join(f"r{n},{'neutral' if n else 'positive'}\n" for n in range(12))
        Path("adviser.csv").write_text(f"id,prediction\n{lines}")
        recipe = write_recipe(
            NO_SERVER,
            dataset={"name": "files", "train": "own.csv"},
            strategy={"name": "label", "adviser": "adviser.csv"},
            finetune={"validation": None},
        )
        done = sentikit("gpt-finetune", "--recipe", recipe, "--prepare-only", "--output", "run")
        assert done.returncode == 0, done.stderr
        lines = Path("run/train.jsonl").read_text().splitlines()
        assert "Classifier Decision: positive" in lines[0]
        assert all("Classifier Decision: neutral" in line for line in lines[1:])

    @pytest.mark.parametrize(
        ("recipe", "column", "size"),
        [
            ("finetune-gpt-4o-mini-minimal", "", 1_691_767),
            ("finetune-gpt-4o", "", 3_253_015),
            ("finetune-gpt-4o-mini-electra-base-label", "electra_base_prediction", 3_939_665),
            ("finetune-gpt-4o-electra-large-label", "electra_large_prediction", 3_939_780),
        ],
    )
    def test_prepared_files_are_as_long_as_the_studys(
        self, recipe: str, column: str, size: int, shared_data: Path
    ) -> None:
        settings = [f"dataset.path={shared_data / 'merged'}", "finetune.validation=null"]
        settings += ["dataset.splits={train: validation, validation: null}"]
        if column:
            recorded = shared_data / "recorded" / "validation-with-electra-predictions.csv"
            settings += [f"strategy.encoder={recorded}", f"strategy.label_column={column}"]
        words = [word for setting in settings for word in ("--set", setting)]
        done = sentikit(
            "gpt-finetune", "--recipe", recipe, *words, "--prepare-only", "--output", "run"
        )
        assert done.returncode == 0, done.stderr
        assert Path("run/train.jsonl").stat().st_size == size


class TestEstimating:
    def estimate(self, *arguments: str, **sections: Any) -> dict[str, Any]:
        recipe = write_recipe(NO_SERVER, **sections)
        done = sentikit("gpt-finetune", "--recipe", recipe, "--estimate", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        assert not Path("runs/own").exists()
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    def test_the_estimate_is_tokens_times_epochs_times_price(self) -> None:
        found = self.estimate(finetune={"epochs": 5})
        assert found["tokens"] == 5 * found["tokens_per_epoch"]
        assert found["usd"] == pytest.approx(found["tokens"] * 3 / 1e6)
        assert (found["exact"], found["price"]) == (True, 3.0)

    def test_the_estimate_predicts_automatic_epochs(self) -> None:
        assert self.estimate()["epochs"] == 8
        assert self.estimate(splits={"train": rows(60), "validation": rows(3)})["epochs"] == 3

    def test_an_unknown_price_stays_unknown(self) -> None:
        found = self.estimate(finetune={"model": "someone/else"})
        assert (found["usd"], found["exact"]) == (None, False)
        priced = {"model": "someone/else", "training_price": 0.5, "epochs": 2}
        found = self.estimate(finetune=priced)
        assert found["usd"] == pytest.approx(found["tokens"] * 0.5 / 1e6)

    def test_estimated_tokens_per_example_agree_with_the_studys_bills(
        self, shared_data: Path
    ) -> None:
        # Billed, an example of its training split: 54.2, 108.2 and 129.2. Validation has twice the
        # share of SST, whose reviews are longer.
        found = {}
        for recipe in ("finetune-gpt-4o-mini-minimal", "finetune-gpt-4o-mini"):
            done = sentikit(
                *("gpt-finetune", "--recipe", recipe, "--estimate", "--json"),
                *("--set", f"dataset.path={shared_data / 'merged'}"),
                *("--set", "dataset.splits={train: validation, validation: null}"),
                *("--set", "finetune.validation=null"),
            )
            values = json.loads(done.stdout)
            found[recipe] = values["tokens_per_epoch"] / values["examples"]
        minimal, prompt = found.values()
        assert minimal == pytest.approx(54.21, abs=0.5)
        assert prompt - minimal == pytest.approx(108.23 - 54.21, abs=0.02)

    def test_a_job_above_max_cost_is_refused(self) -> None:
        with fine_tuning_service() as service:
            done = fine_tune(service, "--max-cost", "0.0001")
            assert done.returncode == 2
            assert "would cost about $0.01" in done.stderr
            assert "Nothing was started" in done.stderr
            assert service.server.requests == []
            assert not Path("runs/own").exists()
            unpriced = {"model": "someone/else"}
            done = fine_tune(service, "--max-cost", "5", finetune=unpriced)
            assert done.returncode == 2
            assert "finetune.training_price" in done.stderr


class TestRuns:
    def test_a_job_ends_with_a_model_its_cost_and_its_losses(self) -> None:
        settings = {"epochs": 2, "suffix": "mine", "batch_size": 4}
        with fine_tuning_service() as service:
            done = fine_tune(service, "--json", finetune=settings)
            assert done.returncode == 0, done.stderr
            (job,) = service.server.jobs.values()
        result = json.loads(done.stdout)
        assert result["model"] == "ft:gpt-4o-mini:us:mine:0"
        assert job["method"] == {
            "type": "supervised",
            "supervised": {
                "hyperparameters": {
                    "n_epochs": 2,
                    "batch_size": 4,
                    "learning_rate_multiplier": "auto",
                }
            },
        }
        assert (job["seed"], job["metadata"]["sentikit"]) == (42, manifest()["fingerprint"])
        assert "hyperparameters" not in job["method"]["type"]
        assert manifest()["trained_tokens"] == job["trained_tokens"]
        cost = job["trained_tokens"] * 3 / 1e6
        assert manifest()["cost_usd"] == {"fine_tuning": pytest.approx(cost)}
        assert (manifest()["status"], manifest()["kind"]) == ("finished", "finetune")
        metrics = json.loads(Path("runs/own/metrics.json").read_text())
        assert [point["step"] for point in metrics["curve"]] == list(range(1, STEPS + 1))
        assert metrics["full_validation_loss"] == 0.25
        assert [point["step"] for point in metrics["checkpoints"]] == [STEPS // 2, STEPS]
        (table,) = Path("runs/own/results").iterdir()
        assert table.read_text().startswith("step,train_loss")

    def test_the_cost_is_shown_before_anything_is_spent(self) -> None:
        with fine_tuning_service() as service:
            message = fine_tune(service, finetune={"epochs": 2}).stderr
        cost = f"costs about ${manifest()['estimate']['usd']:.4f} ($3 per million"
        assert message.index(cost) < message.index("Uploading")
        assert "12 examples for 2 epochs, " in message

    def test_the_uploaded_files_equal_the_prepared_files(self) -> None:
        with fine_tuning_service() as service:
            fine_tune(service)
            uploaded = [content for _, purpose, content in service.server.files.values()][:2]
        assert uploaded == [
            Path("runs/own", name).read_bytes() for name in ("train.jsonl", "validation.jsonl")
        ]

    def test_no_file_of_a_fine_tuning_run_contains_a_key(self) -> None:
        with fine_tuning_service() as service:
            done = fine_tune(service)
        assert KEY not in done.stdout + done.stderr
        assert all(KEY.encode() not in path.read_bytes() for path in all_files(Path("runs")))

    def test_fine_tuning_works_without_validation(self) -> None:
        with fine_tuning_service() as service:
            done = fine_tune(service, finetune={"validation": None})
            assert done.returncode == 0, done.stderr
            (job,) = service.server.jobs.values()
        assert job["validation_file"] is None

    def test_a_large_file_is_uploaded_in_parts(self) -> None:
        with fine_tuning_service(faults={"part_500": 2}) as service:
            done = fine_tune(service, finetune={"file_bytes": 2000, "part_bytes": 1000})
            assert done.returncode == 0, done.stderr
            assert any("/parts" in request for request in service.server.requests)
            (uploaded, *_) = [content for _, _, content in service.server.files.values()]
        assert uploaded == Path("runs/own/train.jsonl").read_bytes()

    def test_the_job_reports_to_wandb_on_request(self) -> None:
        with fine_tuning_service() as service:
            fine_tune(service, finetune={"wandb": {"project": "reviews", "tags": ["sst"]}})
            (job,) = service.server.jobs.values()
        assert job["integrations"] == [
            {"type": "wandb", "wandb": {"project": "reviews", "tags": ["sst"]}}
        ]

    def test_a_base_model_near_its_shutdown_is_warned_about(self) -> None:
        with fine_tuning_service() as service:
            done = fine_tune(service)
        assert "gpt-4o-mini and its fine-tuned models end on 2027-01-14" in done.stderr
        assert "New jobs end on 2027-01-06" in done.stderr


def test_the_openai_fine_tuner_passes_the_conformance_kit() -> None:
    with fine_tuning_service() as service:
        settings = {"model": "any", "base_url": service.url, "poll_seconds": 0.01}
        check_fine_tuner(fine_tuner_class("openai", default_registry()), settings)


class TestFaults:
    def finished(self, done: Done, service: RunningService) -> None:
        """Check that all went well in the end, with one job."""
        assert done.returncode == 0, done.stderr
        assert len(service.server.jobs) == 1
        steps = [record["step"] for record in log("step")]
        assert sorted(set(steps)) == sorted(steps) == list(range(1, STEPS + 1))

    @pytest.mark.parametrize("fault", ["upload_cut", "create_500", "create_lost", "look_500"])
    def test_a_failing_server_never_causes_a_second_job(self, fault: str) -> None:
        with fine_tuning_service(faults={fault: 1}) as service:
            self.finished(fine_tune(service), service)

    @pytest.mark.parametrize("events", ["repeated", "shuffled"])
    def test_every_event_is_logged_once(self, events: str) -> None:
        with fine_tuning_service(events=events) as service:
            self.finished(fine_tune(service), service)
        curve = json.loads(Path("runs/own/metrics.json").read_text())["curve"]
        assert [point["step"] for point in curve] == list(range(1, STEPS + 1))

    def test_an_unknown_status_is_waited_out(self) -> None:
        life = ("validating_files", "paused", "queued", "running", "running", "succeeded")
        with fine_tuning_service(life=life) as service:
            done = fine_tune(service)
            self.finished(done, service)
        assert "'paused'; waiting" in done.stderr

    def test_a_failed_job_shows_the_services_reason(self) -> None:
        with fine_tuning_service(
            life=("running", "failed"), reason="The file holds bad words."
        ) as service:
            done = fine_tune(service)
            assert (done.returncode, manifest()["status"]) == (1, "failed")
            assert "failed: The file holds bad words." in done.stderr
            service.server.behave(life=("running", "succeeded"))
            done = fine_tune(service, "--resume")
            assert done.returncode == 0, done.stderr
            assert [job["status"] for job in service.server.jobs.values()] == [
                "failed",
                "succeeded",
            ]

    def test_a_job_cancelled_elsewhere_is_reported(self) -> None:
        with fine_tuning_service(life=("running", "cancelled")) as service:
            done = fine_tune(service)
        assert done.returncode == 1
        assert "was cancelled. Start another one with --resume" in done.stderr


def test_polling_an_unreachable_server_backs_off_to_a_minute() -> None:
    assert [pause_after(failures, 5) for failures in (1, 2, 3, 4, 5000)] == [10, 20, 40, 60, 60]


class TestResuming:
    def test_a_job_started_with_no_wait_can_be_resumed(self) -> None:
        with fine_tuning_service() as service:
            done = fine_tune(service, "--no-wait")
            assert done.returncode == 0, done.stderr
            assert "Follow: sentikit gpt-finetune" in done.stderr
            assert manifest()["status"] == "running"
            done = fine_tune(service, "--resume")
            assert done.returncode == 0, done.stderr
            assert len(service.server.jobs) == 1

    def test_repeating_the_command_finds_its_own_job(self) -> None:
        with fine_tuning_service() as service:
            fine_tune(service)
            done = fine_tune(service, "--output", "runs/again")
            assert "it is not started again" in done.stderr
            assert manifest("runs/again")["fine_tuned"] == manifest()["fine_tuned"]
            fine_tune(service, "--output", "runs/other", finetune={"seed": 7})
            assert len(service.server.jobs) == 2

    def test_cancel_cancels_the_job(self) -> None:
        with fine_tuning_service(life=("running",)) as service:
            fine_tune(service, "--no-wait")
            done = fine_tune(service, "--cancel")
            assert done.returncode == 0, done.stderr
            assert [job["status"] for job in service.server.jobs.values()] == ["cancelled"]
        assert manifest()["status"] == "cancelled"

    def test_a_prepared_run_can_be_resumed(self) -> None:
        with fine_tuning_service() as service:
            fine_tune(service, "--prepare-only")
            assert service.server.requests == []
            assert fine_tune(service, "--resume").returncode == 0
            assert manifest()["status"] == "finished"

    def test_predictions_of_the_adviser_are_kept_for_the_resumed_run(
        self, trained_run: Path
    ) -> None:
        encoder = shutil.copytree(trained_run, "encoder", ignore=lambda *_: ["predictions.jsonl"])
        strategy = {"name": "label", "encoder": "encoder", "fine_tuned": True}
        with fine_tuning_service() as service:
            done = fine_tune(service, "--no-wait", strategy=strategy)
            assert done.returncode == 0, done.stderr
            before = Path("runs/own/train.jsonl").read_bytes()
            assert b"Classifier Decision: " in before
            kept = Path("runs/own/context-train.jsonl").read_text().splitlines()[1:]
            # The file of a run that an earlier version began is read as well.
            assert all(set(json.loads(line)) == {"adviser", "examples"} for line in kept)
            shutil.rmtree(encoder)
            done = fine_tune(service, "--resume", strategy=strategy)
            assert done.returncode == 0, done.stderr
            assert len(service.server.jobs) == 1
        assert Path("runs/own/train.jsonl").read_bytes() == before

    def test_resuming_with_other_settings_is_refused(self) -> None:
        with fine_tuning_service() as service:
            fine_tune(service, "--no-wait")
            done = fine_tune(service, "--resume", finetune={"epochs": 3})
        assert done.returncode == 2
        assert "was started with other examples, another model or other settings" in done.stderr

    @pytest.mark.slow
    def test_ctrl_c_detaches_and_says_how_to_reattach(self) -> None:
        with fine_tuning_service(life=("running",)) as service:
            process = start(service)
            wait_for(lambda: len(service.server.requests) > 10)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 130, errors
            assert "Detached; a job that was started continues." in errors
            assert "Cancel: sentikit gpt-finetune" in errors
            service.server.behave(life=("succeeded",))
            assert fine_tune(service, "--resume").returncode == 0
            assert len(service.server.jobs) == 1


def start(service: RunningService) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    recipe = write_recipe(service.url)
    command = [sys.executable, "-m", "sentikit", "gpt-finetune", "--recipe", recipe]
    return subprocess.Popen(
        [*command, "--output", "runs/own"],
        env={**os.environ, "OPENAI_API_KEY": KEY},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


#: Of the 23 requests of an undisturbed run: those that look around (1 to 3), two uploads, the job's
#: creation, the first looks at it and its events, one in the middle, the last, and the two that
#: fetch what it leaves. Where something is changed, before and after the change are two things.
KILLS = [(number, False) for number in (*range(1, 10), 14, 20, 22, 23)]
KILLS += [(number, True) for number in (4, 5, 6)]


@pytest.mark.slow
@pytest.mark.parametrize(("request_number", "done_before"), KILLS)
def test_a_kill_at_any_request_results_in_a_single_job(
    request_number: int, done_before: bool
) -> None:
    with fine_tuning_service(hold=request_number, hold_after=done_before) as service:
        process = start(service)
        assert service.server.held.wait(60)
        process.kill()
        process.communicate()
        service.server.behave(hold=0)
        resume = ["--resume"] if Path("runs/own/manifest.json").exists() else []
        done = fine_tune(service, *resume)
        assert done.returncode == 0, done.stderr
        assert len(service.server.jobs) == 1
    assert [record["step"] for record in log("step")] == list(range(1, STEPS + 1))


class TestRunListing:
    def test_a_fine_tuning_run_is_listed_and_shown_but_not_compared(self) -> None:
        with fine_tuning_service() as service:
            fine_tune(service)
        assert "finetune" in sentikit("runs", "list").stdout
        shown = sentikit("runs", "show", "runs/own")
        assert shown.returncode == 0, shown.stderr
        assert "ft:gpt-4o-mini:us::0" in shown.stdout
        assert "There are no finished runs" in sentikit("compare").stderr
        named = sentikit("compare", "runs/own")
        assert named.returncode == 2
        assert "is a fine-tuned model without predictions" in named.stderr


class TestUsing:
    def prompt_recipe(self, service: RunningService, model: str, **strategy: Any) -> str:
        with Path("asked.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["text", "label"], *rows(6, "asked")])
        recipe = {
            "kind": "prompt",
            "dataset": {"name": "files", "test": "asked.csv"},
            "llm": {"backend": "openai", "model": model, "base_url": service.url},
            "strategy": {"name": "minimal", **strategy},
        }
        Path("ask.yaml").write_text(json.dumps(recipe))
        return "ask.yaml"

    def ask(self, service: RunningService, model: str = "runs/own", **strategy: Any) -> Done:
        recipe = self.prompt_recipe(service, model, **strategy)
        output = ["--output", "runs/answers"]
        return sentikit("prompt", "--recipe", recipe, *output, OPENAI_API_KEY=KEY)

    def test_a_fine_tuning_run_is_prompted_with_the_messages_it_was_trained_on(self) -> None:
        with fine_tuning_service() as service:
            fine_tune(service)
            done = self.ask(service)
            assert done.returncode == 0, done.stderr
            asked = service.server.bodies[-1]
        assert asked["model"] == manifest()["fine_tuned"]["model"]
        learnt = json.loads(Path("runs/own/train.jsonl").read_text().splitlines()[0])["messages"]
        assert asked["messages"][0] == learnt[0]
        assert [message["role"] for message in asked["messages"]] == ["system", "user"]
        cost = manifest("runs/answers")["cost_usd"]["fine_tuning"]
        assert cost == manifest()["cost_usd"]["fine_tuning"]

    def test_a_fine_tuning_runs_folder_does_not_hide_other_model_names(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with fine_tuning_service() as service:
            fine_tune(service)
            recipe = Path(self.prompt_recipe(service, "gpt-4o-mini")).resolve()
            monkeypatch.chdir("runs/own")
            arguments = ["--set", f"dataset.test={recipe.parent}/asked.csv", "--estimate", "--json"]
            done = sentikit("prompt", "--recipe", str(recipe), *arguments)
        assert json.loads(done.stdout)["model"] == "gpt-4o-mini"

    @pytest.mark.parametrize("by_name", [False, True], ids=["by run", "by name"])
    def test_a_strategy_the_model_was_not_trained_on_is_refused_unless_intended(
        self, by_name: bool
    ) -> None:
        with fine_tuning_service() as service:
            fine_tune(service, strategy={"name": "zero-shot", "fine_tuned": True})
            model = manifest()["fine_tuned"]["model"] if by_name else "runs/own"
            done = self.ask(service, model, name="minimal")
            assert done.returncode == 2
            assert "was fine-tuned on the messages of 'zero-shot' (fine_tuned: true)" in done.stderr
            assert "strategy.not_as_trained: true" in done.stderr
            done = self.ask(service, model, name="zero-shot")
            assert done.returncode == 2
            assert not Path("runs/answers").exists()
            done = self.ask(service, model, name="minimal", not_as_trained=True)
            assert done.returncode == 0, done.stderr

    def test_a_fine_tuning_run_without_a_model_is_refused_as_llm_model(self) -> None:
        with fine_tuning_service() as service:
            fine_tune(service, "--no-wait")
            done = self.ask(service)
        assert done.returncode == 2
        assert "has no model yet: its status is running" in done.stderr

    def test_a_missing_fine_tuning_run_is_refused_as_llm_model(self) -> None:
        with fine_tuning_service() as service:
            done = self.ask(service, "runs/nobody")
        assert done.returncode == 2
        assert "There is no run runs/nobody. Fine-tune it first" in done.stderr
        assert service.server.bodies == []

    def test_a_fine_tuned_model_is_refused_by_another_backend(self) -> None:
        with fine_tuning_service() as service:
            fine_tune(service)
            recipe = self.prompt_recipe(service, "runs/own")
            done = sentikit("prompt", "--recipe", recipe, "--set", "llm.backend=local")
        assert done.returncode == 2


class TestBadInput:
    def refused(self, service: RunningService, **sections: Any) -> str:
        """Return the one message of a command that uploads nothing and leaves nothing."""
        done = fine_tune(service, **sections)
        assert done.returncode == 2, done.stderr
        assert not any("POST" in request for request in service.server.requests)
        assert not Path("runs/own").exists()
        return done.stderr

    def test_bad_examples_are_refused_before_anything_is_uploaded(self) -> None:
        with fine_tuning_service() as service:
            few = self.refused(service, splits={"train": rows(9), "validation": rows(3)})
            assert "has 9 examples and at least 10 are needed" in few
            stranger = [*rows(12), ("Fine", "lovely")]
            labels = self.refused(service, splits={"train": stranger, "validation": rows(3)})
            assert "train.csv, line 14: the label 'lovely' is not one of negative" in labels
            blank = [*rows(12), ("Fine", "")]
            empty = self.refused(service, splits={"train": blank, "validation": rows(3)})
            assert "train.csv, line 14: the label is missing" in empty
            long = self.refused(service, finetune={"context": 40})
            assert "12 of 12 examples of split 'train' exceed the 40 tokens" in long
            suffix = self.refused(service, finetune={"suffix": "s" * 65})
            assert "finetune.suffix" in suffix
            never = self.refused(service, finetune={"model": "gpt-6-luna"})
            assert "gpt-6-luna cannot be fine-tuned" in never
            provider = self.refused(service, finetune={"provider": "replay"})
            assert "'replay' cannot fine-tune. Use one of " in provider
            assert service.server.requests == []

    def test_a_base_model_past_its_shutdown_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("models.yaml").write_text(
            "as_of: 2026-01-01\nmodels: {old: {ends: 2026-02-01, successor: newer}, "
            "closed: {fine_tuning_ends: 2026-02-01}}"
        )
        monkeypatch.setenv("SENTIKIT_MODELS", "models.yaml")
        with fine_tuning_service() as service:
            ended = self.refused(service, finetune={"model": "old"})
            assert "old was switched off on 2026-02-01. Its provider recommends newer" in ended
            closed = self.refused(service, finetune={"model": "closed"})
            assert "closed has accepted no new fine-tuning jobs since 2026-02-01" in closed
        with fine_tuning_service(shutdown_date="2026-03-01") as service:
            message = self.refused(service, finetune={"model": "anything"})
            assert "anything was switched off on 2026-03-01" in message

    def test_an_organisation_without_permission_gets_the_services_reason(self) -> None:
        with fine_tuning_service(forbidden=True) as service:
            message = self.refused(service)
        assert "does not let this key's organisation fine-tune gpt-4o-mini" in message
        assert "Your organization is not allowed to fine-tune" in message

    def test_an_unknown_base_model_is_refused(self) -> None:
        with fine_tuning_service(models=("other",)) as service:
            assert "has no model 'gpt-4o-mini'" in self.refused(service)

    def test_a_base_model_the_service_refuses_is_reported(self) -> None:
        with fine_tuning_service(
            refusal="Model gpt-4o-mini is not available for fine-tuning."
        ) as service:
            done = fine_tune(service)
        assert done.returncode == 2
        assert "is not available for fine-tuning. No job was started" in done.stderr

    def test_a_missing_openai_key_is_reported(self) -> None:
        recipe = write_recipe("https://api.openai.com/v1")
        done = sentikit("gpt-finetune", "--recipe", recipe)
        assert done.returncode == 2
        assert "There is no key for OpenAI" in done.stderr
        assert "finetune.base_url" in done.stderr

    def test_without_a_recipe_fine_tuning_recipes_are_listed(self) -> None:
        done = sentikit("gpt-finetune")
        assert done.returncode == 2
        assert "finetune-gpt-4o-mini-minimal" in done.stderr
        assert "electra-base," not in done.stderr

    def test_contradictory_options_of_fine_tuning_are_refused(self) -> None:
        with fine_tuning_service() as service:
            assert fine_tune(service, "--estimate", "--prepare-only").returncode == 2
            assert "leave --nproc out" in fine_tune(service, "--nproc", "2").stderr
            done = fine_tune(service, "--cancel")
            assert "nothing to cancel: runs/own has no unfinished run" in done.stderr
            done = fine_tune(service, finetune={"train": "trian"})
            assert "with --set finetune.train=SPLIT" in done.stderr
            done = fine_tune(service, finetune={"validation": "dev"})
            assert "or none with --set finetune.validation=null" in done.stderr
            done = fine_tune(service, engine={"name": "torch"})
            assert "this provider trains remotely" in done.stderr
