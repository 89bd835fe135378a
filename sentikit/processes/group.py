"""The process group of one job: rendezvous, collective exchanges and shared failure.

Collective exchanges wait for every process, so a process that fails alone would leave the others
waiting. It therefore records its failure in the store of torch.distributed, which a thread of
every other process watches.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import re
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from sentikit.devices import choose_device
from sentikit.errors import InputError, SentikitError
from sentikit.processes.launching import (
    LEFT_ALONE,
    is_main_process,
    join_slurm,
    launched_processes,
    process_count,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Time limit of one exchange, in which the first process may write a checkpoint or ask the user.
EXCHANGE_LIMIT = timedelta(hours=1)
#: Read by gloo, which otherwise resolves this machine's own name, often to nothing or to a loopback
#: address that no other machine can reach.
_INTERFACE = "GLOO_SOCKET_IFNAME"
#: ``SIOCGIFADDR`` of Linux, see netdevice(7).
_GET_ADDRESS = 0x8915


def name_interface() -> None:
    """Make gloo use the interface that reaches the first process, unless the user chose one."""
    if _INTERFACE in os.environ or not sys.platform.startswith("linux"):
        return
    import fcntl  # not on Windows

    own = ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            # Nothing is sent; the system only chooses the route.
            probe.connect((os.environ.get("MASTER_ADDR", "localhost"), 9))
            own = str(probe.getsockname()[0])
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                request = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(probe.fileno(), _GET_ADDRESS, request)
                if socket.inet_ntoa(answer[20:24]) == own and not own.startswith("127."):
                    os.environ[_INTERFACE] = name
                    return


class ProcessGroup:
    """The process group of a job, from the view of one process.

    torchrun, the deepspeed launcher and `sentikit.processes.launching` describe the group in the
    environment (https://docs.pytorch.org/docs/stable/distributed.html#environment-variable-initialization).
    """

    rank: int = 0
    processes: int = 1
    _wanted: str = "auto"

    @functools.cached_property
    def device(self) -> torch.device:
        """This process's device, chosen on first use, because ONNX models need no torch."""
        return _own_device(self._wanted, int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and shows messages."""
        return self.rank == 0

    def join(self, device: str, even_alone: bool = False) -> None:
        """Choose the device, join the group and wait for the others."""
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        self._wanted = device
        if processes > 1 or even_alone:
            from torch import distributed

            _join(self.device, processes)
            self.rank, self.processes = distributed.get_rank(), distributed.get_world_size()
        # No process writes to the run's folder before all have read it.
        self.sum([0.0])

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sum over the processes, in double precision."""
        if self.processes == 1:
            return [float(value) for value in values]
        import torch
        from torch import distributed

        total = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def gather(self, array: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Collect every process's array; they may differ in shape."""
        import torch

        if self.processes == 1:
            return [array]
        own = {"array": torch.from_numpy(np.ascontiguousarray(array))}
        ranks = range(self.processes)
        return [self._tensors_of(rank, own)["array"].numpy() for rank in ranks]

    def broadcast(self, value: Any) -> Any:
        """Return the value of process 0, sent as JSON, so that nothing is unpickled."""
        return self._value_of(0, value)

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of process 0 on the CPU; only process 0 needs the files."""
        return self._tensors_of(0, tensors)

    def _value_of(self, rank: int, value: Any) -> Any:
        import torch
        from torch import distributed

        if self.processes == 1:
            return value
        text = json.dumps(value).encode() if self.rank == rank else b""
        size = torch.tensor([len(text)], device=self.device)
        distributed.broadcast(size, src=rank)
        content = torch.frombuffer(bytearray(text or int(size)), dtype=torch.uint8).to(self.device)
        distributed.broadcast(content, src=rank)
        return json.loads(content.cpu().numpy().tobytes())

    def _tensors_of(self, rank: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch
        from torch import distributed

        if self.processes == 1:
            return dict(tensors)
        shapes = [(n, str(t.dtype).removeprefix("torch."), t.shape) for n, t in tensors.items()]
        received = {}
        for name, kind, shape in self._value_of(rank, shapes):
            if self.rank == rank:
                tensor = tensors[name].to(self.device).contiguous()
            else:
                tensor = torch.empty(shape, dtype=getattr(torch, kind), device=self.device)
            if tensor.numel():
                distributed.broadcast(tensor, src=rank)
            received[name] = tensor.cpu()
        return received


def _own_device(wanted: str, processes: int) -> torch.device:
    """Return the device of this process; GPUs are assigned by the local rank."""
    import torch

    device = choose_device(wanted)
    if processes > 1 and device.type == "mps":
        raise InputError("Several processes cannot share the device mps. Use --device cpu.")
    if processes > 1 and device.type == "cuda" and ":" in wanted:
        raise InputError(
            f"--device {wanted} is one GPU, but there are {processes} processes. Use --device "
            "cuda, which gives each process its own."
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _join(device: torch.device, processes: int) -> None:
    """Join the process group once; later engines of this process reuse it, as DeepSpeed does."""
    from torch import distributed

    if distributed.is_initialized():
        return
    # Its functions keep the group that exists when it is first imported, so import it before.
    importlib.import_module("torch.distributed.nn.functional")
    atexit.register(_leave)
    name_interface()
    backend = "nccl" if device.type == "cuda" else "gloo"
    if processes > 1:
        distributed.init_process_group(
            backend,
            store=meeting_store(),
            rank=int(os.environ["RANK"]),
            world_size=processes,
            timeout=EXCHANGE_LIMIT,
        )
    else:
        alone = distributed.HashStore()  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=alone, rank=0, world_size=1)


def _leave() -> None:
    """Destroy the group with its threads.

    A thread that frees a tensor while the interpreter exits aborts the process
    (https://github.com/pytorch/pytorch/pull/179291).
    """
    from torch import distributed

    # The threads end with the last object that refers to the group, such as a model.
    gc.collect()
    if distributed.is_initialized():
        distributed.destroy_process_group()


#: Time limit for all processes to appear.
MEETING_LIMIT = timedelta(minutes=10)
_GREET_EVERY = 0.1
_WELCOME = "sentikit/welcome"


@functools.cache
def meeting_store() -> Any:
    """Return the store that the processes of this attempt share."""
    # Set before torch is loaded, to hide its traces of lost connections.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, processes = next(rendezvous("env://", timeout=MEETING_LIMIT))
        prefix = agree(store, rank, processes)
    except Exception as error:
        raise SentikitError(
            f"The {os.environ.get('WORLD_SIZE')} processes of this job could not connect "
            f"at {os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')} "
            f"({' '.join(str(error).split())[:200]})."
        ) from error
    return PrefixStore(prefix, store)


def agree(store: Any, rank: int, processes: int, limit: timedelta = MEETING_LIMIT) -> str:
    """Return a random prefix that the live processes agree on, despite entries of dead ones.

    Every process publishes a random token. The first one publishes the list of all tokens, its own
    first, until every process has confirmed it; a process ignores lists without its own token.
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


#: Seconds between two checks of the store.
_LOOK_EVERY = 0.5
#: Seconds that a process has to exit by itself after another has failed.
_GRACE = 5.0
_FAILURE, _STOPPED = "sentikit/failure", "sentikit/stopped"
#: Messages of gloo, NCCL and the store, and of nothing else, after a peer is lost.
_LOST_CONTACT = re.compile(
    r"third_party/gloo|gloo/transport|NCCL|TCPStore|\[c10d\]|Connection (closed|reset|refused) by|"
    r"connect\(\)|recvValue failed|sendBytes failed"
)


@contextlib.contextmanager
def joined_processes() -> Iterator[bool]:
    """Run a command in one or several processes, which fail together.

    The first process to fail prints its error; the others exit silently with the same code.

    Yields:
        Whether this process shows messages.

    Raises:
        click.exceptions.Exit: another process has failed, or all agreed to stop.
        SentikitError: the other processes did not appear in time.
    """
    os.environ.update(join_slurm())
    if process_count() == 1:
        yield is_main_process()
        return
    with _Watch(meeting_store()):
        yield is_main_process()


class _Watch:
    """Watches the store, and ends this process after another has failed."""

    def __init__(self, meeting: Any) -> None:
        # A separate connection, because the other one may be waiting for an answer.
        self._store = meeting.clone()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if isinstance(error, click.exceptions.Exit):
                self._wait_for_main_process()
            elif isinstance(error, Exception):
                self._report(error)
        finally:
            # A thread that still uses the store while the interpreter exits aborts the process.
            self._done.set()
            self._thread.join(_GRACE)

    def _report(self, error: Exception) -> None:
        """Announce a failure to the others, or exit silently if another one was first."""
        lost_contact = is_lost_contact(error)
        if lost_contact:
            # The other process may be about to announce why it failed.
            time.sleep(2 * _LOOK_EVERY)
        first_code = self._announce(error)
        if first_code is not None:
            raise click.exceptions.Exit(first_code) from error
        if lost_contact and launched_processes():
            # The launcher knows which process was killed, and reports it.
            raise click.exceptions.Exit(LEFT_ALONE) from error
        if lost_contact:
            raise SentikitError(
                "Another process of this run was killed or cannot be reached "
                f"({' '.join(str(error).split())[:200]})."
            ) from error

    def _announce(self, error: Exception) -> int | None:
        code = error.exit_code if isinstance(error, click.ClickException) else 1
        own = f"{os.environ.get('RANK', '0')} {code}".encode()
        # If the store is gone, so are the others.
        with contextlib.suppress(Exception):
            # Failure and code are set in one exchange, so that no watcher has to wait for the code.
            first = self._store.compare_set(_FAILURE, "", own.decode())
            if first != own:
                return _code(first)
            # Exiting closes connections, so give the others time to see the failure first.
            time.sleep(2 * _LOOK_EVERY)
        return None

    def _wait_for_main_process(self) -> None:
        """Wait until the main process has written, as a launcher kills the rest after one exits."""
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
                # The store is gone, because the launcher or the first process is.
                code = 1
            if not self._done.wait(_GRACE):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)


def _code(failure: bytes) -> int:
    return int(failure.split()[-1])


def is_lost_contact(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and bool(_LOST_CONTACT.search(str(error)))
