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
    """The system asked to stop, by SIGTERM; unlike other exits, no fault of the code that runs."""


#: A terminal that is closed sends SIGHUP; Windows has none.
_HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)
_SIGNALS = tuple(dict.fromkeys((signal.SIGINT, signal.SIGTERM, _HANGUP)))


@contextmanager
def stop_on_signal(tell: Callable[[int], None]) -> Iterator[Callable[[], bool]]:
    """Take the first Ctrl-C (or SIGTERM, SIGHUP) as a request to stop; the second stops at once.

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

    # What ignores SIGHUP already, as under nohup, is to outlive its terminal.
    taken = [n for n in _SIGNALS if n != _HANGUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, request) for number in taken}
    try:
        yield lambda: bool(stops)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def clean_up_at_sigterm() -> None:
    """Let SIGTERM and SIGHUP leave as little behind as Ctrl-C does: no files, no open run.

    Not where several processes work together: one that waits for another inside a library would
    not hear of the signal until the other has come.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        signal.signal(signal.SIGTERM, _exit)
        if signal.getsignal(_HANGUP) != signal.SIG_IGN:
            signal.signal(_HANGUP, _exit)


def _exit(number: int, frame: object) -> None:
    raise Terminated(128 + number)
