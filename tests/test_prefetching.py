"""Prefetching of batches: in order, within its limit, with errors in their place."""

from __future__ import annotations

import threading
import time

import pytest

from sentikit.training.data import prefetched


@pytest.mark.parametrize(("workers", "ahead"), [(1, 0), (1, 1), (1, 3), (4, 8)])
def test_prefetching_keeps_the_order(workers: int, ahead: int) -> None:
    def make(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    made = list(prefetched(range(30), make, workers, ahead))
    assert made == [(number, number * number) for number in range(30)]


def test_prefetching_stays_within_its_limit() -> None:
    made: list[int] = []
    batches = prefetched(range(100), made.append, workers=2, ahead=3)
    for _ in range(5):
        next(batches)
    time.sleep(0.05)
    assert len(made) <= 5 + 3
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_a_prefetching_error_is_raised_in_turn() -> None:
    def make(number: int) -> int:
        if number == 3:
            raise OSError("unreadable")
        return number

    batches = prefetched(range(9), make, workers=2, ahead=4)
    assert [next(batches)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="unreadable"):
        next(batches)
