"""Examples on disk: what was read does not stay in memory."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from sentikit.datasets.examples import Examples, ExamplesBuilder

ROWS = 40_000


@pytest.fixture
def examples() -> Examples:
    builder = ExamplesBuilder()
    for number in range(ROWS):
        builder.add(f"the text with the number {number:,} " + "and more " * 20, source="made up")
    return builder.finish()


def resident() -> int:
    """Return how many bytes of mapped examples are in memory."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            ours = f" {tempfile.gettempdir()}/" in line and "(deleted)" in line
        elif ours and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_reading_in_pieces_keeps_only_one_piece_in_memory(examples: Examples) -> None:
    size = examples.table.nbytes
    assert size > 8 * 2**20
    most = 0
    for _ in examples.batches(2000):
        most = max(most, resident())
    assert 0 < most < size / 3
    assert resident() < size / 10


def test_rows_are_the_same_on_every_read(examples: Examples) -> None:
    before = examples.fingerprint()
    assert examples.fingerprint() == before
    first = next(examples.batches(5))
    assert first["text"][3].startswith("the text with the number 3 ")


def test_views_of_examples_on_disk_stay_on_disk(examples: Examples) -> None:
    some = examples.select([5, 3])
    both = Examples.concatenate([some, examples])
    labelled = examples.replace_column("label", examples.table.column("source"))
    assert [found.mapped for found in (some, labelled)] == [examples.mapped] * 2
    assert len(both.mapped) == 2
    assert both.texts[:3] == [examples.texts[5], examples.texts[3], examples.texts[0]]
    assert labelled.labels[0] == "made up"
