"""Several machines train one model: they share neither a disk nor names, only a network.

Machines are network namespaces, see `two_machines`; each works in a folder of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from several_processes import (
    SENTIKIT,
    Outcome,
    children,
    complaints,
    end,
    environment,
    log,
    run,
    start,
    wait_for_steps,
)
from ssh_between import ssh_between
from two_machines import PORT, Machine, two_machines

pytestmark = pytest.mark.slow

#: No dropout, which would differ with the number of processes.
SETTINGS = ("training.precision=fp32", "training.epochs=6", "head.dropout=0")
Machines = tuple[Machine, Machine]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with two_machines(tmp_path_factory.mktemp("machines")) as both:
        yield both


@pytest.fixture
def recipe(tmp_path_factory: pytest.TempPathFactory, reviews: Path, tmp_path: Path) -> Path:
    from tiny_models import make_encoder

    encoder = make_encoder(tmp_path_factory.mktemp("models") / "calm", dropout=0.0)
    path = tmp_path / "calm.yaml"
    path.write_text(
        f"""dataset:
  name: files
  train: {reviews}/train.csv
  validation: {reviews}/validation.csv
  test: {reviews}/test.csv
encoder: {{name: transformers, model: {encoder}, max_length: 64}}
head: {{name: linear, pooling: mean}}
training: {{batch_size: 16, lr: 1e-3, log_every: 1}}
"""
    )
    return path


def words(recipe: Path, *more: str) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return ["train", "--recipe", str(recipe), "--output", "run", *settings, *more]


def folders(tmp_path: Path) -> list[Path]:
    """Return where each machine works: they share no disk."""
    made = [tmp_path / "first", tmp_path / "second"]
    for folder in made:
        folder.mkdir()
    return made


def start_everywhere(
    machines: Machines,
    places: list[Path],
    command: Callable[[int, Machine], list[str]],
    **more: str,
) -> list[subprocess.Popen[str]]:
    return [
        start(machine.words(command(number, machine)), cwd=place, env=environment(**more))
        for number, (machine, place) in enumerate(zip(machines, places, strict=True))
    ]


def assert_same_losses(first: Path, second: Path) -> None:
    losses, others = ([r["loss"] for r in log(path, "step")] for path in (first, second))
    assert len(losses) > 10
    assert others == pytest.approx(losses, rel=1e-5)


def assert_trained_by_two(outcomes: list[Outcome], places: list[Path]) -> None:
    assert [outcome.code for outcome in outcomes] == [0, 0], "\n".join(o.error for o in outcomes)
    manifest = json.loads((places[0] / "run/manifest.json").read_text())
    assert (manifest["processes"], manifest["status"]) == (2, "finished")
    assert not (places[1] / "run").exists()


def torchrun(machines: Machines, number: int, arguments: list[str]) -> list[str]:
    """Return torchrun's command line; addresses throughout, since no names are known."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{machines[0].address}:{PORT}"),
        # A machine whose name stands for its loopback does not know itself by its address.
        *("--rdzv-conf", f"is_host={number == 0}", "--local-addr", machines[number].address),
        *("--rdzv-id", "a-job", "--max-restarts", "3", "-m", "sentikit", *arguments),
    ]


def test_torchrun_on_two_machines_resumes_after_a_worker_was_killed(
    machines: Machines, recipe: Path, tmp_path: Path
) -> None:
    arguments = words(recipe, "--set", "training.checkpoints.every_minutes=0.001")
    assert run(*arguments[:3], "--output", "alone", *arguments[5:]).code == 0
    places = folders(tmp_path)
    launchers = start_everywhere(
        machines, places, lambda number, _: torchrun(machines, number, arguments)
    )
    wait_for_steps(launchers[0], places[0] / "run", 9)
    (worker,) = children(launchers[1])
    os.kill(worker, signal.SIGKILL)
    assert_trained_by_two([end(launcher) for launcher in launchers], places)
    assert_same_losses(Path("alone"), places[0] / "run")


def test_the_deepspeed_launcher_reads_a_hostfile(
    machines: Machines, recipe: Path, tmp_path: Path
) -> None:
    pytest.importorskip("deepspeed")
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("".join(f"{machine.address} slots=1\n" for machine in machines))
    launcher = Path(sys.executable).with_name("deepspeed")
    arguments = words(recipe, "--set", "engine={name: deepspeed, stage: 3}")

    def command(number: int, _: Machine) -> list[str]:
        first = ("--master_addr", machines[0].address, "--master_port", str(PORT + 1))
        here = ("--hostfile", str(hostfile), "--no_ssh", "--node_rank", str(number))
        return [str(launcher), *here, *first, "--module", "sentikit", *arguments]

    places = folders(tmp_path)
    launchers = start_everywhere(machines, places, command, DS_ACCELERATOR="cpu")
    assert_trained_by_two([end(launcher) for launcher in launchers], places)


def test_the_deepspeed_launcher_starts_the_other_machine_by_ssh(
    machines: Machines, recipe: Path, tmp_path: Path
) -> None:
    pytest.importorskip("deepspeed")
    hostfile, variables = tmp_path / "hostfile", tmp_path / "deepspeed_env"
    hostfile.write_text("".join(f"{machine.address} slots=1\n" for machine in machines))
    # What the launcher hands on to the other machines beside its own choice of variables.
    variables.write_text("DS_ACCELERATOR=cpu\nOMP_NUM_THREADS=1\n")
    launcher = Path(sys.executable).with_name("deepspeed")
    arguments = words(recipe, "--set", "engine={name: deepspeed, stage: 1}")
    with ssh_between(machines, tmp_path) as settings:
        command = [
            *("sh", "-e", "-c", f'mount --bind {settings} /etc/ssh/ssh_config; exec "$@"', "sh"),
            *(str(launcher), "--hostfile", str(hostfile), "--master_addr", machines[0].address),
            *("--master_port", str(PORT + 2), "--module", "sentikit", *arguments),
        ]
        more = {"DS_ACCELERATOR": "cpu", "DS_ENV_FILE": str(variables)}
        outcome = end(start(machines[0].words(command), env=environment(**more)))
    assert outcome.code == 0, outcome.error
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert (manifest["processes"], manifest["status"]) == (2, "finished")


def test_srun_runs_on_two_machines_and_refuses_one_with_other_data(
    machines: Machines, recipe: Path, reviews: Path, tmp_path: Path
) -> None:
    places = folders(tmp_path)
    for place in places:
        (place / "reviews").mkdir()
        for split in ("train", "validation", "test"):
            (place / f"reviews/{split}.csv").write_text((reviews / f"{split}.csv").read_text())
    recipe.write_text(recipe.read_text().replace(str(reviews), "reviews"))
    network = machines[0].address.rpartition(".")[0]

    def task(number: int, _: Machine) -> list[str]:
        variables = {
            "SLURM_JOB_ID": "70123",
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": str(number),
            "SLURM_LOCALID": "0",
            "SLURM_NTASKS": "2",
            "SLURM_NODELIST": f"{network}.[1-2]",
        }
        given = [f"{name}={value}" for name, value in variables.items()]
        return ["env", *given, *SENTIKIT, *words(recipe)]

    tasks = start_everywhere(machines, places, task)
    assert_trained_by_two([end(each) for each in tasks], places)
    # A row less on the second machine: other batches, other steps.
    table = places[1] / "reviews/train.csv"
    table.write_text(table.read_text().rpartition("\n")[0].rpartition("\n")[0] + "\n")
    (places[0] / "run").rename(places[0] / "before")
    outcomes = [end(each) for each in start_everywhere(machines, places, task)]
    assert [outcome.code for outcome in outcomes] == [2, 2]
    (message,) = [line for outcome in outcomes for line in complaints(outcome.error)]
    assert f"{machines[1].name}: the data or recipe of process 1 differ from" in message
