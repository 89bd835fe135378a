"""Files: the old content or the new, and one sentence where the system refuses."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentikit.errors import InputError, SentikitError
from sentikit.files import atomic_writer, read_json, write_json, write_text


def write_and_fail(path: Path) -> None:
    with atomic_writer(path) as stream:
        stream.write("new")
        raise ZeroDivisionError


def test_a_failure_in_between_leaves_the_old_file_and_no_other() -> None:
    write_text(Path("a.txt"), "old")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(Path("a.txt"))
    assert Path("a.txt").read_text() == "old"
    assert os.listdir() == ["a.txt"]


def test_files_are_as_readable_as_others() -> None:
    write_json(Path("deep/er/a.json"), {"ä": 1})
    Path("plain").write_text("")
    assert Path("deep/er/a.json").stat().st_mode == Path("plain").stat().st_mode
    assert read_json(Path("deep/er/a.json")) == {"ä": 1}


def test_not_a_number_never_reaches_a_json_file() -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(Path("a.json"), {"loss": float("nan")})
    assert os.listdir() == []


def test_bad_json_names_its_line() -> None:
    Path("a.json").write_text('{"a": 1,\n"b": }')
    with pytest.raises(InputError, match=r"a\.json, line 2: not valid JSON"):
        read_json(Path("a.json"))


def test_a_file_where_a_folder_must_be_is_said() -> None:
    Path("taken").write_text("")
    with pytest.raises(InputError, match="a file of that name is in the way"):
        write_text(Path("taken/a.txt"), "x")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_the_old_file_stays(small_disk: Path) -> None:
    write_text(small_disk / "a.txt", "old")
    with pytest.raises(SentikitError, match="disk is full") as caught:
        write_text(small_disk / "a.txt", "x" * 2_000_000)
    assert caught.value.exit_code == 1
    assert (small_disk / "a.txt").read_text() == "old"
    assert os.listdir(small_disk) == ["a.txt"]


def test_training_onto_a_full_disk_ends_in_one_sentence(
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


def test_a_full_temporary_folder_is_named(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentikit.data.examples import Examples

    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    with pytest.raises(SentikitError, match=r"disk is full: .*/disk \(TMPDIR\)"):
        Examples.from_columns([f"text {number} {'x' * 90}" for number in range(30_000)])


def test_a_read_only_place_is_said(small_disk: Path, tiny_recipe: Path) -> None:
    from click.testing import CliRunner

    from sentikit.cli import sentikit

    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    words = ["train", "--recipe", str(tiny_recipe), "--output", str(small_disk / "run")]
    result = CliRunner().invoke(sentikit, words)
    assert result.exit_code == 2
    assert "may not be read or written" in result.stderr
