"""Fine-tuning jobs judged by OpenAI's own contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_recipes import rows, write_recipe
from finetuning_server import fine_tuning_service
from openai_contract import judged_by
from prompt_commands import sentikit

pytestmark = pytest.mark.slow

SPLITS = {"train": rows(12), "validation": rows(6, "other")}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.8, "suffix": "mine"},
        {"file_bytes": 2000, "part_bytes": 1500},
        {"wandb": {"project": "reviews", "entity": "us", "tags": ["sst"]}},
    ],
    ids=["defaults", "hyperparameters", "in parts", "wandb"],
)
def test_fine_tuning_requests_follow_openais_contract(
    settings: dict[str, object], tmp_path: Path, shared_data: Path
) -> None:
    contract = shared_data / "openai-openapi-slice.json"
    with (
        fine_tuning_service(faults={"create_500": 1}) as service,
        judged_by(contract, service.url, tmp_path) as (url, recorder),
    ):
        recipe = write_recipe(url, finetune=settings, splits=SPLITS)
        words = ["gpt-finetune", "--recipe", recipe, "--output"]
        done = sentikit(*words, "runs/own", OPENAI_API_KEY="sk-made-up")
        assert done.returncode == 0, done.stderr
        done = sentikit(*words, "runs/again", "--no-wait", OPENAI_API_KEY="sk-made-up")
        assert done.returncode == 0, done.stderr
        done = sentikit(*words, "runs/again", "--cancel", OPENAI_API_KEY="sk-made-up")
        assert done.returncode == 0, done.stderr
        assert len(service.server.jobs) == 1
    assert recorder.requests > 15
    assert recorder.breaches == []
