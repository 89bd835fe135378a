"""Checkpoints: complete or absent after a kill at any moment, with the best weights."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sentikit.errors import InputError, SentikitError
from sentikit.training.checkpoints import Checkpoint, CheckpointFolder, TrainingState


def tensors(value: float) -> dict[str, Tensor]:
    return {"weight": torch.full((3,), value)}


def save(folder: CheckpointFolder, step: int, best_epoch: int = 0) -> None:
    state = TrainingState("this run", step=step, best_epoch=best_epoch)
    folder.save(Checkpoint(state, tensors(step), tensors(-step)))
    folder.flush()


def latest_step(folder: CheckpointFolder) -> int:
    found = folder.latest("this run", print)
    assert found is not None
    assert found.weights["weight"][0] == found.state.step
    return found.state.step


@pytest.fixture
def folder() -> CheckpointFolder:
    return CheckpointFolder(Path("checkpoints"), keep=2)


def test_the_newest_checkpoint_is_found_and_old_ones_are_removed(folder: CheckpointFolder) -> None:
    assert folder.latest("this run", print) is None
    for step in (1, 2, 3):
        save(folder, step)
    assert latest_step(folder) == 3
    assert sorted(os.listdir("checkpoints")) == ["step-000000002", "step-000000003"]


def test_best_weights_of_a_checkpoint_survive_until_the_next_checkpoint(
    folder: CheckpointFolder,
) -> None:
    folder.save_best(tensors(1), 1)
    save(folder, 10, best_epoch=1)
    folder.save_best(tensors(2), 2)
    # Killed here, the run goes on from the checkpoint, and epoch 2 may come out otherwise.
    assert folder.best(1)["weight"][0] == 1
    save(folder, 20, best_epoch=2)
    save(folder, 30, best_epoch=2)
    assert folder.best(2)["weight"][0] == 2
    assert not Path("checkpoints/best-00001.safetensors").exists()


def test_best_weights_do_not_accumulate_between_checkpoints(folder: CheckpointFolder) -> None:
    for epoch in range(1, 6):
        folder.save_best(tensors(epoch), epoch)
    folder.flush()
    assert os.listdir("checkpoints") == ["best-00005.safetensors"]


def test_a_kill_between_two_renames_loses_no_checkpoint(folder: CheckpointFolder) -> None:
    save(folder, 6)
    Path("checkpoints/step-000000006").rename("checkpoints/.step-000000006.old")
    Path("checkpoints/.step-000000006.abc").mkdir()
    assert latest_step(folder) == 6
    assert os.listdir("checkpoints") == ["step-000000006"]


def test_half_written_files_left_by_kills_are_removed(folder: CheckpointFolder) -> None:
    save(folder, 6)
    for name in (".step-000000012.abc", ".step-000000012.def", ".step-000000006.old"):
        Path("checkpoints", name).mkdir()
    assert latest_step(folder) == 6
    assert os.listdir("checkpoints") == ["step-000000006"]


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(
    folder: CheckpointFolder, file: str
) -> None:
    save(folder, 1)
    save(folder, 2)
    os.truncate(Path("checkpoints/step-000000002", file), 20)
    messages: list[str] = []
    found = folder.latest("this run", messages.append)
    assert found is not None
    assert found.state.step == 1
    assert "step-000000002" in messages[0]
    assert messages[0].endswith("Resuming from the checkpoint before it.")
    os.truncate(Path("checkpoints/step-000000001", file), 20)
    with pytest.raises(InputError, match="Remove checkpoints to start again"):
        folder.latest("this run", print)


def test_a_checkpoint_without_its_best_weights_is_damaged(folder: CheckpointFolder) -> None:
    save(folder, 1, best_epoch=3)
    with pytest.raises(InputError, match=r"best-00003\.safetensors is missing"):
        folder.latest("this run", print)


def test_a_checkpoint_of_another_run_is_refused(folder: CheckpointFolder) -> None:
    save(folder, 1)
    with pytest.raises(InputError, match="another recipe"):
        folder.latest("another run", print)


def test_checkpoints_are_written_in_the_background_one_at_a_time(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentikit.training import checkpoints

    may_write, plain = threading.Event(), checkpoints.write_weights

    def slowly(*arguments: Any) -> None:
        assert may_write.wait(30)
        plain(*arguments)

    monkeypatch.setattr(checkpoints, "write_weights", slowly)
    state = TrainingState("this run", step=1)
    folder.save(Checkpoint(state, tensors(1), tensors(-1)))
    state.step = 99  # training goes on with the same state
    assert not os.path.exists("checkpoints/step-000000001")
    second = threading.Thread(target=save, args=(folder, 2))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    may_write.set()
    second.join()
    assert sorted(os.listdir("checkpoints")) == ["step-000000001", "step-000000002"]
    assert latest_step(folder) == 2


def test_an_error_while_writing_is_raised_by_the_next_call(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentikit.training import checkpoints

    def full(*arguments: Any) -> None:
        raise SentikitError("The disk is full")

    monkeypatch.setattr(checkpoints, "write_weights", full)
    folder.save(Checkpoint(TrainingState("this run", step=1), tensors(1), tensors(-1)))
    with pytest.raises(SentikitError, match="The disk is full"):
        folder.flush()


def test_no_checkpoint_refers_to_best_weights_that_were_not_written(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentikit.training import checkpoints

    folder.save_best(tensors(1), 1)
    save(folder, 1, best_epoch=1)
    both_wait, plain = threading.Event(), checkpoints.write_weights

    def full(path: Path, *arguments: Any) -> None:
        assert both_wait.wait(30)
        if "best-" in path.name:
            raise SentikitError("The disk is full")
        plain(path, *arguments)

    monkeypatch.setattr(checkpoints, "write_weights", full)
    folder.save_best(tensors(2), 2)
    state = TrainingState("this run", step=2, best_epoch=2)
    folder.save(Checkpoint(state, tensors(2), tensors(-2)))
    both_wait.set()
    for _ in range(2):
        with pytest.raises(SentikitError, match="The disk is full"):
            folder.flush()
    assert latest_step(folder) == 1
    assert folder.best(1)["weight"][0] == 1
