"""Lets the processes of one job fail as one: at once, with one message and one exit code.

Exchanges between processes wait for everybody, so a process that fails alone would leave the
others waiting. Here it tells them through the store that torch.distributed meets at, and each
looks there from a thread of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import click

from sentikit.errors import SentikitError
from sentikit.processes.launching import LEFT_ALONE, launched_processes, process_count, speaks
from sentikit.processes.meeting import MEETING_LIMIT, meeting_store

#: Seconds between two looks at the store.
_LOOK_EVERY = 0.5
#: Seconds a process has to end by itself after another has failed, and its watch to stop looking.
_GRACE = 5.0
_FAILURE, _STOPPED = "sentikit/failure", "sentikit/stopped"
#: What gloo, NCCL and the store say when a peer is gone; no error of anybody else's.
_LOST_CONTACT = re.compile(
    r"third_party/gloo|gloo/transport|NCCL|TCPStore|\[c10d\]|Connection (closed|reset|refused) by|"
    r"connect\(\)|recvValue failed|sendBytes failed"
)


class Together:
    """What a process knows of the others.

    Attributes:
        failed: another process has failed, so whatever happens here is but a consequence.
    """

    def __init__(self) -> None:
        self.failed = False


@contextlib.contextmanager
def failing_together() -> Iterator[Together]:
    """Surround the work of a process that may be one of several.

    Whoever fails first prints its error; the others end quietly with the same exit code.

    Raises:
        click.exceptions.Exit: another process has failed, or all agreed to stop.
        SentikitError: the other processes did not appear in time.
    """
    together = Together()
    if process_count() == 1:
        yield together
        return
    watch = _Watch(meeting_store(), together)
    watch.start()
    try:
        yield together
    except click.exceptions.Exit:
        watch.wait_for_speaker()
        raise
    except KeyboardInterrupt:
        raise
    except Exception as error:
        watch.report(error)
        raise
    finally:
        watch.end()


class _Watch:
    """Looks at the store every moment, and ends the process when another has failed."""

    def __init__(self, meeting: Any, together: Together) -> None:
        # A connection of its own: the other one may be waiting for an answer.
        self._store = meeting.clone()
        self._together = together
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        # A thread that still talks to the store while the interpreter ends aborts the process.
        self._done.set()
        self._thread.join(_GRACE)

    def report(self, error: Exception) -> None:
        """Tell the others of a failure here.

        Raises:
            click.exceptions.Exit: another process was first, and has said what happened.
            SentikitError: instead of an error that only says that another process is gone.
        """
        lost_contact = _is_lost_contact(error)
        if lost_contact:
            # The other one may be about to say why it went.
            time.sleep(2 * _LOOK_EVERY)
        first_code = self._announce(error)
        if first_code is not None:
            raise click.exceptions.Exit(first_code) from error
        if lost_contact and launched_processes():
            # The launcher knows which process was killed, and says so.
            raise click.exceptions.Exit(LEFT_ALONE) from error
        if lost_contact:
            raise SentikitError(
                "Another process of this run ended without a word, or cannot be reached any more "
                f"({' '.join(str(error).split())[:200]})."
            ) from error

    def _announce(self, error: Exception) -> int | None:
        """Be the first to tell of a failure, or return the exit code of who was."""
        code = error.exit_code if isinstance(error, click.ClickException) else 1
        own = f"{os.environ.get('RANK', '0')} {code}".encode()
        # Where the store is gone, so are the others.
        with contextlib.suppress(Exception):
            # In one exchange: who sees a failure finds its code, and never waits for it with the
            # connection that the code would have to come by.
            first = self._store.compare_set(_FAILURE, "", own.decode())
            if first != own:
                return _code(first)
            # A process that ends takes its connections with it: first let the others know why.
            time.sleep(2 * _LOOK_EVERY)
        return None

    def wait_for_speaker(self) -> None:
        """Stay until the process that writes has written: a launcher kills the rest after one."""
        with contextlib.suppress(Exception):
            if speaks():
                self._store.set(_STOPPED, "1")
            else:
                self._store.wait([_STOPPED], MEETING_LIMIT)

    def _look(self) -> None:
        while not self._done.wait(_LOOK_EVERY):
            try:
                if not self._store.check([_FAILURE]):
                    continue
                code = _code(self._store.get(_FAILURE))
            except Exception:
                # The store is gone, and with it the launcher or the first process.
                code = 1
            self._together.failed = True
            if not self._done.wait(_GRACE):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)


def _code(failure: bytes) -> int:
    """Return the exit code in what a process wrote of its failure: its rank, and the code."""
    return int(failure.split()[-1])


def _is_lost_contact(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and bool(_LOST_CONTACT.search(str(error)))
