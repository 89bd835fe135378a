"""Files: the old content or the new, and one sentence where the system refuses."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sentikit.plugins.report.figures import read_log

from sentikit.errors import InputError, SentikitError
from sentikit.files import atomic_writer, folder_writer, read_json, write_json, write_text
from sentikit.runs.folder import JsonLinesLog

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def write_and_fail(path: Path) -> None:
    with atomic_writer(path) as stream:
        stream.write("new")
        raise ZeroDivisionError


def test_a_failed_write_leaves_only_the_old_file() -> None:
    write_text(Path("a.txt"), "old")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(Path("a.txt"))
    assert Path("a.txt").read_text() == "old"
    assert os.listdir() == ["a.txt"]


def test_written_files_have_the_usual_permissions() -> None:
    write_json(Path("deep/er/a.json"), {"ä": 1})
    Path("plain").write_text("")
    assert Path("deep/er/a.json").stat().st_mode == Path("plain").stat().st_mode
    assert read_json(Path("deep/er/a.json")) == {"ä": 1}


def test_nan_is_never_written_to_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(Path("a.json"), {"loss": float("nan")})
    assert os.listdir() == []


def test_bad_json_names_its_line() -> None:
    Path("a.json").write_text('{"a": 1,\n"b": }')
    with pytest.raises(InputError, match=r"a\.json, line 2: not valid JSON"):
        read_json(Path("a.json"))


def test_a_file_in_place_of_a_folder_is_reported() -> None:
    Path("taken").write_text("")
    with pytest.raises(InputError, match="because a file has that name"):
        write_text(Path("taken/a.txt"), "x")


@pytest.mark.posix
def test_writing_through_a_link_replaces_its_target() -> None:
    Path("real").mkdir()
    Path("real/a.txt").write_text("old")
    Path("link").symlink_to("real/a.txt")
    write_text(Path("link"), "new")
    assert Path("link").is_symlink()
    assert Path("real/a.txt").read_text() == "new"
    assert os.listdir("real") == ["a.txt"]


@pytest.mark.posix
def test_writing_to_a_pipe_keeps_the_pipe() -> None:
    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE)
    write_text(Path("pipe"), "through")
    assert reader.communicate(timeout=10)[0] == b"through"
    assert Path("pipe").is_fifo()


@pytest.mark.posix
def test_standard_output_can_be_named_as_a_file() -> None:
    program = "from pathlib import Path; from sentikit.files import write_text; "
    program += "write_text(Path('/dev/stdout'), 'said')"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout == b"said"
    assert Path("/dev/stdout").is_symlink()


def test_errors_of_reading_during_a_write_name_the_file_read() -> None:
    with pytest.raises(InputError, match=r"in\.csv does not exist"), atomic_writer(Path("out.csv")):
        Path("in.csv").read_text()
    assert os.listdir() == []


def test_network_errors_during_a_write_do_not_blame_the_file() -> None:
    refused = pytest.raises(ConnectionRefusedError)
    with refused, atomic_writer(Path("out.csv")), socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        socket.create_connection(peer.getsockname())


def write_and_refuse(error: OSError) -> None:
    with atomic_writer(Path("out.csv")):
        raise error


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.EPIPE, None])
def test_errors_unrelated_to_the_disk_are_passed_on(number: int | None) -> None:
    error = OSError("odd") if number is None else OSError(number, os.strerror(number))
    with pytest.raises(OSError, match="odd" if number is None else "Errno") as caught:
        write_and_refuse(error)
    assert caught.value is error


def write_folder(path: Path, content: str) -> None:
    with folder_writer(path) as folder:
        write_text(folder / "a.txt", content)


def test_a_folder_is_replaced_atomically() -> None:
    write_folder(Path("model"), "old")
    with pytest.raises(ZeroDivisionError), folder_writer(Path("model")) as folder:
        write_and_fail(folder / "a.txt")
    assert Path("model/a.txt").read_text() == "old"
    write_folder(Path("model"), "new")
    assert Path("model/a.txt").read_text() == "new"
    assert os.listdir() == ["model"]


def test_a_kill_between_two_renames_loses_no_folder() -> None:
    write_folder(Path("model"), "old")
    Path("model").rename(".model.old")
    with pytest.raises(ZeroDivisionError), folder_writer(Path("model")) as folder:
        write_and_fail(folder / "a.txt")
    assert Path("model/a.txt").read_text() == "old"


def test_a_log_keeps_records_with_unusual_line_separators() -> None:
    log = JsonLinesLog(Path("log.jsonl"))
    for step in (1, 2, 3):
        log.write({"kind": "step", "step": step, "said": "one\u2028two\x85three"})
    log.close()
    with Path("log.jsonl").open("a") as stream:
        stream.write('{"kind": "st')
    log.keep(2, 0)
    assert [record["step"] for record in read_log(Path("log.jsonl"))] == [1, 2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if not IS_ROOT or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.posix
def test_a_full_disk_is_reported_and_keeps_the_old_file(small_disk: Path) -> None:
    write_text(small_disk / "a.txt", "old")
    with pytest.raises(SentikitError, match="disk is full") as caught:
        write_text(small_disk / "a.txt", "x" * 2_000_000)
    assert caught.value.exit_code == 1
    assert (small_disk / "a.txt").read_text() == "old"
    assert os.listdir(small_disk) == ["a.txt"]


@pytest.mark.posix
def test_training_on_a_full_disk_ends_with_one_sentence(
    small_disk: Path, tiny_recipe: Path
) -> None:
    from click.testing import CliRunner

    from sentikit.cli import sentikit

    (small_disk / "filler").write_bytes(b"x" * 900_000)
    words = ["train", "--recipe", str(tiny_recipe), "--output", str(small_disk / "run")]
    result = CliRunner().invoke(sentikit, words)
    assert result.exit_code == 1
    assert "disk is full" in result.stderr
    assert "Traceback" not in result.output
    (small_disk / "filler").unlink()
    resumed = CliRunner().invoke(sentikit, [*words, "--resume"])
    assert resumed.exit_code == 0, resumed.output
    assert (small_disk / "run" / "predictions.jsonl").is_file()


@pytest.mark.posix
def test_a_full_temporary_folder_is_named(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentikit.datasets.examples import Examples

    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    with pytest.raises(SentikitError, match=r"disk is full: .*/disk \(TMPDIR\)"):
        Examples.from_columns([f"text {number} {'x' * 90}" for number in range(30_000)])


@pytest.mark.posix
def test_a_read_only_folder_is_reported(small_disk: Path, tiny_recipe: Path) -> None:
    from click.testing import CliRunner

    from sentikit.cli import sentikit

    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    words = ["train", "--recipe", str(tiny_recipe), "--output", str(small_disk / "run")]
    result = CliRunner().invoke(sentikit, words)
    assert result.exit_code == 2
    assert "run cannot be written" in result.stderr
    assert "is not writable (Read-only file system)" in result.stderr


@pytest.mark.posix
@pytest.mark.skipif(IS_ROOT, reason="root can list every folder")
def test_a_missing_file_in_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o311)
    with pytest.raises(InputError, match=r"gone\.json does not exist"):
        read_json(folder / "gone.json")
