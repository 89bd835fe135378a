"""Orderly stops of long work at Ctrl-C and SIGTERM."""

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
    """The system asked to stop, by SIGTERM; unlike other exits, no fault of the running code."""


#: Closing a terminal sends SIGHUP, which Windows does not have.
_HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)
_SIGNALS = tuple(dict.fromkeys((signal.SIGINT, signal.SIGTERM, _HANGUP)))


@contextmanager
def stop_on_signal(tell: Callable[[int], None]) -> Iterator[Callable[[], bool]]:
    """Treat the first Ctrl-C (or SIGTERM, SIGHUP) as a request to stop; the second stops at once.

    Args:
        tell: called with the first signal's number, to show a message.

    Yields:
        A function that returns whether to save and stop; work calls it several times a second.

    Raises:
        KeyboardInterrupt: in the block, at the second signal.
    """
    stops: list[int] = []

    def request(number: int, frame: object) -> None:
        if stops:
            raise KeyboardInterrupt
        stops.append(number)
        tell(number)

    # A process that ignores SIGHUP, as under nohup, should outlive its terminal.
    taken = [n for n in _SIGNALS if n != _HANGUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, request) for number in taken}
    try:
        yield lambda: bool(stops)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def clean_up_at_sigterm() -> None:
    """Clean up at SIGTERM and SIGHUP as at Ctrl-C: remove temporary files and close the run.

    Jobs of several processes do not: one that waits for another inside a library handles the
    signal only after that.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        signal.signal(signal.SIGTERM, _exit)
        if signal.getsignal(_HANGUP) != signal.SIG_IGN:
            signal.signal(_HANGUP, _exit)


def _exit(number: int, frame: object) -> None:
    raise Terminated(128 + number)
