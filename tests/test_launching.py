"""Several processes, started by us or by a launcher: they communicate, stop and fail together."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from several_processes import (
    SENTIKIT,
    children,
    complaints,
    end,
    environment,
    free_port,
    is_alive,
    log,
    run,
    run_ranks,
    start,
    wait_for_steps,
)

from sentikit.cli import sentikit
from sentikit.errors import InputError
from sentikit.processes.group import agree
from sentikit.processes.launching import (
    command_arguments,
    first_host,
    job_id,
    join_slurm,
    worker_environment,
)
from sentikit.runs.folder import RunFolder, choose_run_folder

#: Long enough to be stopped on the way, wherever this runs.
LONG = ("--set", "training.epochs=3000", "--set", "training.checkpoints.every_minutes=0.01")


def words(recipe: Path, output: str, *more: str) -> list[str]:
    return ["train", "--recipe", str(recipe), "--output", output, *more]


def status(run_folder: str) -> str:
    return str(json.loads(Path(run_folder, "manifest.json").read_text())["status"])


SLURM = {
    "SLURM_JOB_ID": "70123",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_NODELIST": "gpu[007-009,012],login1",
}


def test_srun_variables_are_understood() -> None:
    assert join_slurm(SLURM) == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu007",
        "MASTER_PORT": "30123",
    }
    assert join_slurm({**SLURM, "MASTER_ADDR": "head", "MASTER_PORT": "1"})["MASTER_ADDR"] == "head"
    # A step may have fewer tasks than its job.
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "gpu009"}
    assert join_slurm({**SLURM, **step})["WORLD_SIZE"] == "2"
    assert join_slurm({**SLURM, **step})["MASTER_ADDR"] == "gpu009"


def test_a_batch_script_a_single_task_and_a_launcher_within_slurm_are_not_srun() -> None:
    batch_script = {key: value for key, value in SLURM.items() if key != "SLURM_STEP_ID"}
    assert join_slurm(batch_script) == {}
    assert join_slurm({**SLURM, "SLURM_NTASKS": "1"}) == {}
    assert join_slurm({**SLURM, "WORLD_SIZE": "2"}) == {}
    assert join_slurm({}) == {}


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("node[3-5]", "node3"),
        ("node[08,10-12]", "node08"),
        ("rack[2-3]-a,rack7", "rack2-a"),
    ],
)
def test_the_first_host_is_read_from_slurms_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


def test_threads_are_limited_even_if_torch_is_imported_later() -> None:
    program = (
        "from sentikit.devices import set_threads; set_threads(3); import torch; "
        "print(torch.get_num_threads()); print(torch.__config__.parallel_info())"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
    words = [sys.executable, "-c", program]
    output = subprocess.run(words, env=kept, capture_output=True, text=True, check=True).stdout
    assert output.startswith("3\n")
    assert "MKL_NUM_THREADS : 3" in output
    assert "mkl_get_max_threads() : 3" in output or "mkl_get_max_threads" not in output


def test_processes_share_the_cores_unless_the_user_has_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    assert worker_environment(3, cores=8)["OMP_NUM_THREADS"] == "2"
    assert worker_environment(8, cores=2)["OMP_NUM_THREADS"] == "1"
    assert worker_environment(2, cores=8)["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in worker_environment(2, cores=8)


def test_worker_commands_repeat_the_users_command() -> None:
    written: list[list[str]] = []

    @click.group()
    def program() -> None: ...

    @program.command()
    @click.option("--set", "settings", multiple=True)
    @click.option("--output", type=click.Path(path_type=Path))
    @click.option("--threads", type=int)
    @click.option("--device", default="auto")
    @click.option("--resume", is_flag=True)
    @click.option("--nproc", type=int)
    @click.pass_context
    def train(context: click.Context, **options: object) -> None:
        written.append(command_arguments(context, ["nproc"]))

    typed = ["train", "--set", "a.b=c d", "--set", "e=1", "--output", "runs/x", "--resume"]
    CliRunner().invoke(program, [*typed, "--nproc", "4"])
    CliRunner().invoke(program, ["train", "--threads", "2", "--device", "cpu"])
    assert written == [typed, ["train", "--threads", "2", "--device", "cpu"]]


def test_worker_commands_put_arguments_after_options() -> None:
    written: list[list[str]] = []

    @click.group()
    def program() -> None: ...

    @program.command()
    @click.argument("model", type=click.Path(path_type=Path))
    @click.argument("file", default="-")
    @click.option("--format", "kind")
    @click.pass_context
    def predict(context: click.Context, **options: object) -> None:
        written.append(command_arguments(context))

    CliRunner().invoke(program, ["predict", "runs/x", "--format", "csv", "--", "-odd.csv"])
    assert written == [["predict", "--format", "csv", "--", "runs/x", "-odd.csv"]]


def test_worker_commands_repeat_multi_value_options() -> None:
    written: list[list[str]] = []

    @click.group()
    def program() -> None: ...

    @program.command()
    @click.argument("runs", nargs=-1)
    @click.option("--between", nargs=2, type=int)
    @click.pass_context
    def vote(context: click.Context, **options: object) -> None:
        written.append(command_arguments(context, add=["--resume"]))

    CliRunner().invoke(program, ["vote"])
    CliRunner().invoke(program, ["vote", "--between", "1", "2", "a", "b"])
    assert written == [
        ["vote", "--resume"],
        ["vote", "--between", "1", "2", "--resume", "--", "a", "b"],
    ]


def test_more_processes_than_texts_in_a_batch_are_refused(tiny_recipe: Path) -> None:
    result = CliRunner().invoke(sentikit, words(tiny_recipe, "run", "--nproc", "17"))
    assert result.exit_code == 2
    assert "training.batch_size is 16, less than the number of processes (17)" in result.output


def test_nproc_under_another_launcher_is_refused(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    result = CliRunner().invoke(sentikit, words(tiny_recipe, "run", "--nproc", "2"))
    assert result.exit_code == 2
    assert "Leave it out" in result.output


def test_the_deepspeed_launchers_own_option_is_tolerated() -> None:
    result = CliRunner().invoke(sentikit, ["--local_rank=1", "train", "--help"])
    assert result.exit_code == 0


@pytest.mark.slow
def test_a_wrong_recipe_is_reported_by_one_process_only(tiny_recipe: Path) -> None:
    outcomes = run_ranks(words(tiny_recipe, "run", "--set", "training.lrr=1"))
    assert [outcome.code for outcome in outcomes] == [2, 2]
    (message,) = [line for outcome in outcomes for line in complaints(outcome.error)]
    assert "Did you mean 'lr'?" in message
    usage = run_ranks(words(tiny_recipe, "run", "--treads", "1"))
    assert [outcome.code for outcome in usage] == [2, 2]
    assert len([line for outcome in usage for line in complaints(outcome.error)]) == 1


@pytest.mark.slow
def test_a_process_without_the_data_ends_all_processes_with_its_message(
    tiny_recipe: Path, reviews: Path, tmp_path: Path
) -> None:
    # Two machines, of which the second lacks the folder that the recipe names.
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "first/reviews").symlink_to(reviews)
    relative = tiny_recipe.read_text().replace(str(reviews), "reviews")
    tiny_recipe.write_text(relative)
    first, second = run_ranks(
        words(tiny_recipe, str(tmp_path / "run")), folders=[tmp_path / "first", tmp_path / "second"]
    )
    assert (first.code, second.code) == (2, 2)
    assert complaints(second.error) == ["Error: reviews/train.csv does not exist. Check the path."]
    assert not complaints(first.error)


@pytest.mark.slow
def test_a_full_disk_ends_all_processes_with_one_message(tiny_recipe: Path) -> None:
    # No file may grow beyond 40 blocks of 1,024 bytes; the model's weights need more.
    shell = f"ulimit -f 40; exec {shlex.join([*SENTIKIT, *words(tiny_recipe, 'run')])} --nproc 2"
    outcome = end(start(["bash", "-c", shell]))
    assert outcome.code == 1
    (message,) = complaints(outcome.error)
    assert "checkpoints" in message
    assert "File too large" in message
    assert "Traceback" not in outcome.error
    assert status("run") == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_within_seconds(tiny_recipe: Path, victim: int) -> None:
    process = start([*SENTIKIT, *words(tiny_recipe, "run", *LONG), "--nproc", "2"])
    wait_for_steps(process, Path("run"), 10)
    workers = children(process)
    os.kill(workers[victim], signal.SIGKILL)
    outcome = end(process, limit=40)
    assert outcome.code == 1
    assert f"Process {victim} was killed by signal 9" in outcome.error
    assert len(complaints(outcome.error)) == 1
    assert not any(is_alive(worker) for worker in workers)


@pytest.mark.slow
def test_processes_end_when_their_launcher_dies(tiny_recipe: Path) -> None:
    process = start([*SENTIKIT, *words(tiny_recipe, "run", *LONG), "--nproc", "2"])
    wait_for_steps(process, Path("run"), 10)
    workers = children(process)
    process.kill()
    end(process)
    deadline = time.monotonic() + 40
    while any(is_alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_alive(worker) for worker in workers)


@pytest.mark.slow
def test_ctrl_c_and_sigterm_save_once_and_the_printed_command_resumes(tiny_recipe: Path) -> None:
    command, lines, steps = [*words(tiny_recipe, "run", *LONG), "--nproc", "2"], 0, 0
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start([*SENTIKIT, *command])
        wait_for_steps(process, Path("run"), lines + 10)
        process.send_signal(number)
        outcome = end(process)
        assert outcome.code == 128 + number, outcome.error
        assert not steps or f"Resuming after step {steps:,}" in outcome.error
        assert status("run") == "interrupted"
        (advice,) = [line for line in outcome.error.splitlines() if "--resume" in line]
        assert "--nproc 2" in advice
        steps = len(log(Path("run"), "step"))
        lines = steps + len(log(Path("run"), "epoch"))
        (checkpoint,) = Path("run/checkpoints").glob("step-*")
        assert int(checkpoint.name.removeprefix("step-")) == steps
        command = shlex.split(advice.partition("Resume with: ")[2].removeprefix("sentikit "))
    # One more epoch and the run is complete.
    patience = f"training.early_stopping.patience={lines - steps + 1}"
    target = "training.early_stopping.target=0"
    resumed = run(*command, "--set", patience, "--set", target)
    assert resumed.code == 0, resumed.error
    assert f"Resuming after step {steps:,}" in resumed.error
    assert [record["step"] for record in log(Path("run"), "step")][: steps + 1] == [
        *range(1, steps + 2)
    ]
    assert status("run") == "finished"


@pytest.mark.slow
def test_under_torchrun_a_run_is_stopped_by_sigterm_and_saved(tiny_recipe: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = start([*launcher, "-m", "sentikit", *words(tiny_recipe, "run", *LONG)])
    wait_for_steps(process, Path("run"), 10)
    process.send_signal(signal.SIGTERM)
    outcome = end(process)
    assert status("run") == "interrupted"
    (advice,) = [line for line in outcome.error.splitlines() if "Resume by" in line]
    assert "Resume by the same launcher with: sentikit train" in advice
    assert "--nproc" not in advice
    assert list(Path("run/checkpoints").glob("step-*"))


@pytest.mark.slow
def test_a_worker_killed_under_torchrun_resumes_from_the_last_checkpoint(tiny_recipe: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node=2", "--max-restarts=3", "-m", "sentikit"]
    settings = ("training.epochs=12", "training.checkpoints.every_minutes=0.001")
    more = [word for setting in settings for word in ("--set", setting)]
    process = start([*launcher, *words(tiny_recipe, "run", *more)])
    wait_for_steps(process, Path("run"), 10)
    os.kill(children(process)[1], signal.SIGKILL)
    outcome = end(process)
    assert outcome.code == 0, outcome.error
    assert "Resuming after step" in outcome.error
    assert status("run") == "finished"
    assert [record["step"] for record in log(Path("run"), "step")] == list(range(1, 73))


def test_a_launchers_restarts_have_the_same_job_id() -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "a-job"}
    assert job_id(torchrun) == "torchrun a-job"
    # Slurm starts a requeued job's torchrun anew, which may call itself otherwise.
    assert job_id({**torchrun, "SLURM_JOB_ID": "70123"}) == "slurm 70123"
    assert job_id({}) is None
    # What --nproc has started is not started again, but for the job it is in.
    assert job_id({**torchrun, "SENTIKIT_LAUNCHED": "2"}) is None
    assert job_id({"SENTIKIT_LAUNCHED": "2", "SLURM_JOB_ID": "70123"}) == "slurm 70123"


def test_only_a_jobs_own_unfinished_run_is_resumed_automatically(tmp_path: Path) -> None:
    run_folder = RunFolder(tmp_path / "runs/tiny")
    run_folder.update_manifest(status="running", job="torchrun a-job")
    chosen = choose_run_folder(None, "tiny", False, tmp_path / "runs", "torchrun a-job")
    assert chosen.path == run_folder.path
    other = choose_run_folder(None, "tiny", False, tmp_path / "runs", "torchrun another")
    assert other.path == tmp_path / "runs/tiny-2"
    with pytest.raises(InputError, match="already holds another run"):
        choose_run_folder(run_folder.path, "tiny", False, tmp_path / "runs", "torchrun another")
    run_folder.update_manifest(status="finished")
    with pytest.raises(InputError, match="already holds another run"):
        choose_run_folder(run_folder.path, "tiny", False, tmp_path / "runs", "torchrun a-job")


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer", True),
        ("NCCL error in: ProcessGroupNCCL.cpp:1", True),
        ("Connection pool of my tokenizer is broken", False),
        ("no such column: Connection", False),
    ],
)
def test_only_lost_peer_errors_are_treated_as_lost_peers(message: str, lost: bool) -> None:
    from sentikit.processes.group import is_lost_contact

    assert is_lost_contact(RuntimeError(message)) == lost


def test_surviving_processes_agree_on_a_message_after_a_peer_died() -> None:
    from torch.distributed import TCPStore

    server = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)

    def meet(rank: int) -> str:
        return agree(TCPStore("localhost", server.port, is_master=False), rank, 3)

    attempts = []
    for order in ((2, 1, 0), (0, 1, 2), (1, 2, 0)):
        with ThreadPoolExecutor() as together:
            attempts.append(set(together.map(meet, order)))
    assert [len(words) for words in attempts] == [1, 1, 1]
    assert len(set.union(*attempts)) == 3


#: Python runs this first, so that the function it registers runs last.
NOTE_THREADS = """
import atexit, os, pathlib
def note():
    names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    pathlib.Path(f"threads-{os.environ.get('RANK')}").write_text("".join(names))
atexit.register(note)
"""


def noting_threads() -> dict[str, str]:
    """Return variables under which every process of a job notes its last threads in this folder."""
    Path("sitecustomize.py").write_text(NOTE_THREADS)
    return {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}


def assert_no_gloo_thread_was_left() -> None:
    # Gloo's threads may hold tensors; one that frees its last while Python ends aborts it.
    for rank in ("0", "1"):
        assert "gloo" not in Path(f"threads-{rank}").read_text()


@pytest.mark.slow
def test_two_srun_tasks_write_one_run_and_leave_no_gloo_thread(tiny_recipe: Path) -> None:
    port, noted = str(free_port()), noting_threads()

    def variables(rank: int) -> dict[str, str]:
        own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NTASKS": "2"}
        return {**own, **noted, "SLURM_NODELIST": "localhost", "MASTER_PORT": port}

    first, second = run_ranks(words(tiny_recipe, "run", "--json"), variables)
    assert (first.code, second.code) == (0, 0), first.error + second.error
    assert json.loads(first.output)["run"] == "run"
    assert (second.output, second.error) == ("", "")
    assert json.loads(Path("run/manifest.json").read_text())["processes"] == 2
    assert_no_gloo_thread_was_left()


@pytest.mark.slow
def test_the_deepspeed_launcher_starts_training_and_leaves_no_gloo_thread(
    tiny_recipe: Path,
) -> None:
    pytest.importorskip("deepspeed")
    launcher = Path(sys.executable).with_name("deepspeed")
    port = f"--master_port={free_port()}"
    command = [str(launcher), "--num_accelerators=2", port, "--module", "sentikit"]
    command += words(tiny_recipe, "run", "--set", "engine.name=deepspeed")
    outcome = end(start(command, env=environment(DS_ACCELERATOR="cpu", **noting_threads())))
    assert outcome.code == 0, outcome.error
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert (manifest["processes"], manifest["status"]) == (2, "finished")
    assert_no_gloo_thread_was_left()
