"""Ends long work in good order when the user or the system asks for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(Exception):  # noqa: N818 - an event, no error
    """The user asked to stop; everything is saved.

    Attributes:
        resumable: whether the same command with ``--resume`` continues the work.
    """

    resumable = True


class Terminated(SystemExit):
    """The system asked to stop, by SIGTERM; unlike other exits, no fault of whoever is at work."""


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signal(tell: Callable[[int], None]) -> Iterator[Callable[[], bool]]:
    """Take the first Ctrl-C (or SIGTERM) as a request to stop; the second stops at once.

    Args:
        tell: called with the first signal's number, to say what happens now.

    Yields:
        What work asks, several times a second, whether it is to save and end.

    Raises:
        KeyboardInterrupt: in the block, at the second signal.
    """
    stops: list[int] = []

    def request(number: int, frame: object) -> None:
        if stops:
            raise KeyboardInterrupt
        stops.append(number)
        tell(number)

    before = {number: signal.signal(number, request) for number in _SIGNALS}
    try:
        yield lambda: bool(stops)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def clean_up_at_sigterm() -> None:
    """Let SIGTERM leave as little behind as Ctrl-C does: no temporary files, no open run.

    Not where several processes work together: one that waits for another inside a library would
    not hear of the signal until the other has come.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, frame: object) -> None:
    raise Terminated(128 + number)
