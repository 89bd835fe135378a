"""Processes of one job that find one another, and fail as one with one message and one exit code.

Exchanges between processes wait for all of them, so a process that fails alone would leave the
others waiting. Each announces its failure in the store that torch.distributed meets at, and a
thread in each of the others looks there.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import click

from sentikit.errors import SentikitError
from sentikit.processes.launching import (
    LEFT_ALONE,
    is_main_process,
    join_slurm,
    launched_processes,
    process_count,
)

#: How long processes wait for one another to appear.
MEETING_LIMIT = timedelta(minutes=10)
_GREET_EVERY = 0.1
_WELCOME = "sentikit/welcome"


@functools.cache
def meeting_store() -> Any:
    """Return the store this process shares with the others of its attempt; they meet once.

    Raises:
        SentikitError: they did not appear in time.
    """
    # Set before torch is loaded: its traces of lost connections tell a user nothing.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, processes = next(rendezvous("env://", timeout=MEETING_LIMIT))
        word = agree(store, rank, processes)
    except Exception as error:
        raise SentikitError(
            f"The {os.environ.get('WORLD_SIZE')} processes of this job did not find one another "
            f"at {os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')} "
            f"({' '.join(str(error).split())[:200]})."
        ) from error
    return PrefixStore(word, store)


def agree(store: Any, rank: int, processes: int, limit: timedelta = MEETING_LIMIT) -> str:
    """Return a word that the living processes agree on, whatever dead ones have left in the store.

    Everyone says a word of their own. The first process repeats what it hears, with its own word
    before it, until everyone has confirmed; nobody heeds a welcome that does not hold their word.

    Raises:
        TimeoutError: somebody did not come.
    """
    own, deadline = uuid.uuid4().hex, time.monotonic() + limit.total_seconds()
    store.set(f"sentikit/hello/{rank}", own)
    others = [f"sentikit/hello/{other}" for other in range(1, processes)]
    while time.monotonic() < deadline:
        agreed = _welcome(store, own, others) if rank == 0 else _welcomed(store, own)
        if agreed:
            return agreed
        time.sleep(_GREET_EVERY)
    raise TimeoutError(f"not all {processes} came within {limit}")


def _welcome(store: Any, own: str, others: Sequence[str]) -> str | None:
    if others and not store.check(list(others)):
        return None
    words = [store.get(other).decode() for other in others]
    store.set(_WELCOME, json.dumps([own, *words]))
    confirmed = store.add(f"sentikit/confirmed/{own}", 0)
    return own if confirmed == len(others) else None


def _welcomed(store: Any, own: str) -> str | None:
    if not store.check([_WELCOME]):
        return None
    first, *words = json.loads(store.get(_WELCOME))
    if own not in words:
        return None
    store.add(f"sentikit/confirmed/{first}", 1)
    return str(first)


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
        failed: another process has failed, so an error here is only a consequence.
    """

    def __init__(self) -> None:
        self.failed = False


@contextlib.contextmanager
def failing_together() -> Iterator[Together]:
    """Surround the work of a process that may be one of several.

    The first process to fail prints its error; the others end silently with the same exit code.

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
            if is_main_process():
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


@contextlib.contextmanager
def joined_processes() -> Iterator[bool]:
    """Surround a command that a launcher may have started several times; they fail as one.

    Yields:
        Whether this process is the one that talks to the user.

    Raises:
        click.exceptions.Exit: another process has failed.
    """
    os.environ.update(join_slurm())
    with failing_together():
        yield is_main_process()
