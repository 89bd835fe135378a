"""What processes tell one another over torch.distributed, however they were started."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentikit.devices import choose_device
from sentikit.errors import InputError
from sentikit.processes.failures import meeting_store

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Read by gloo, which otherwise asks what address this machine's own name stands for: often none,
#: or one of the loopback that no other machine can reach.
_VARIABLE = "GLOO_SOCKET_IFNAME"
#: ``SIOCGIFADDR`` of Linux, see netdevice(7).
_GET_ADDRESS = 0x8915


def name_interface() -> None:
    """Let gloo use the interface that leads to the first process, unless the user has chosen."""
    if _VARIABLE in os.environ or not sys.platform.startswith("linux"):
        return
    address = _own_address(os.environ.get("MASTER_ADDR", "localhost"))
    name = _interface_of(address) if address and not address.startswith("127.") else None
    if name:
        os.environ[_VARIABLE] = name


def _own_address(host: str) -> str | None:
    """Return the IPv4 address from which this machine reaches `host`; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])
    return None


def _interface_of(address: str) -> str | None:
    """Return the interface that bears an IPv4 address."""
    import fcntl  # not on Windows

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(asking.fileno(), _GET_ADDRESS, request)
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None


#: How long a process waits for the others in one exchange: the first may be writing a checkpoint,
#: or asking the user what to do next.
EXCHANGE_LIMIT = timedelta(hours=1)


class ProcessGroup:
    """The processes of one job, as one of them sees them.

    torchrun, the deepspeed launcher and `sentikit.processes.launching` describe the group in the
    environment (https://docs.pytorch.org/docs/stable/distributed.html#environment-variable-initialization).

    Attributes:
        rank: this process's number, from 0.
        processes: how many take part.
    """

    rank: int = 0
    processes: int = 1
    _wanted: str = "auto"

    @functools.cached_property
    def device(self) -> torch.device:
        """Where this process computes; chosen when first asked for: ONNX models need no torch."""
        return _own_device(self._wanted, int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def join(self, device: str, even_alone: bool = False) -> None:
        """Choose the device, join the group and meet the others.

        Raises:
            InputError: no such device, or one that several processes cannot share.
        """
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        self._wanted = device
        if processes > 1 or even_alone:
            from torch import distributed

            _join(self.device, processes)
            self.rank, self.processes = distributed.get_rank(), distributed.get_world_size()
        # Nobody writes to the run's folder before everybody has looked at it.
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
        """Collect every process's array; they may differ in size, not in their dimensions."""
        import torch

        if self.processes == 1:
            return [array]
        shapes = self._all_gather(torch.tensor(array.shape, dtype=torch.int64))
        sizes = [int(shape.prod()) for shape in shapes]
        padded = torch.zeros(max(sizes), dtype=torch.float32)
        padded[: array.size] = torch.from_numpy(np.ascontiguousarray(array)).reshape(-1)
        return [
            piece[:size].numpy().reshape(tuple(shape.tolist()))
            for piece, size, shape in zip(self._all_gather(padded), sizes, shapes, strict=True)
        ]

    def broadcast(self, value: Any) -> Any:
        """Return what process 0 has; it travels as JSON, so that nothing is unpickled."""
        import torch
        from torch import distributed

        if self.processes == 1:
            return value
        text = json.dumps(value).encode() if self.rank == 0 else b""
        size = torch.tensor([len(text)], device=self.device)
        distributed.broadcast(size, src=0)
        if self.rank == 0:
            content = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(self.device)
        else:
            content = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        distributed.broadcast(content, src=0)
        return json.loads(content.cpu().numpy().tobytes())

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return, on the CPU, the tensors that process 0 has; it alone needs a disk with them."""
        import torch
        from torch import distributed

        if self.processes == 1:
            return dict(tensors)
        shapes = [(n, str(t.dtype).removeprefix("torch."), t.shape) for n, t in tensors.items()]
        received = {}
        for name, kind, shape in self.broadcast(shapes):
            if self.rank == 0:
                tensor = tensors[name].to(self.device).contiguous()
            else:
                tensor = torch.empty(shape, dtype=getattr(torch, kind), device=self.device)
            distributed.broadcast(tensor, src=0)
            received[name] = tensor.cpu()
        return received

    def _all_gather(self, tensor: Tensor) -> list[Tensor]:
        import torch
        from torch import distributed

        own = tensor.to(self.device)
        gathered = [torch.empty_like(own) for _ in range(self.processes)]
        distributed.all_gather(gathered, own)
        return [piece.cpu() for piece in gathered]


def _own_device(wanted: str, processes: int) -> torch.device:
    """Return the device of this process; GPUs are dealt out by the rank on the machine."""
    import torch

    device = choose_device(wanted)
    if processes > 1 and device.type == "mps":
        raise InputError("Several processes cannot share the device mps. Use --device cpu.")
    if device.type != "cuda":
        return device
    if processes > 1 and ":" in wanted:
        raise InputError(
            f"--device {wanted} names one GPU, and there are {processes} processes. "
            "Use --device cuda: each process takes its own."
        )
    if device.index is None:
        # Slurm may show each process its own GPU alone; then the rank is beyond their number.
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _join(device: torch.device, processes: int) -> None:
    """Join the process group, once: the next engine of this process finds it there.

    DeepSpeed, too, holds on to the group that it has first seen.
    """
    from torch import distributed

    if distributed.is_initialized():
        return
    # Its functions hold on to the group that is there when it is first imported, as it later is.
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

    One that lets go of a tensor while the interpreter ends aborts the process
    (https://github.com/pytorch/pytorch/pull/179291).
    """
    from torch import distributed

    # The threads end with the last object that refers to the group, as models and optimizers do.
    gc.collect()
    if distributed.is_initialized():
        distributed.destroy_process_group()
