"""Lets the processes of a job find one another, and none that were there before them.

torchrun starts processes again after one has failed, and the store by which they meet is then still
the old one, with what the failed ones have written in it. So the new ones first agree on a word
of their own, and all they write is kept apart under it.
"""

from __future__ import annotations

import functools
import json
import os
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sentikit.errors import SentikitError

#: How long processes wait for one another to appear.
MEETING_LIMIT = timedelta(minutes=10)
_LOOK_EVERY = 0.1
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
        time.sleep(_LOOK_EVERY)
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
