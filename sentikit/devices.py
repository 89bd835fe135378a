"""What the machine offers: device, threads, and where half precision pays."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentikit.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Hardware:
    """The machine, as far as a choice of engine or precision needs it.

    Attributes:
        gpus: CUDA devices.
        processes: processes of this job.
    """

    gpus: int
    processes: int


def find_hardware() -> Hardware:
    """Look at the machine and at how this process was started."""
    import torch

    return Hardware(torch.cuda.device_count(), int(os.environ.get("WORLD_SIZE", "1")))


def check_device_name(wanted: str) -> None:
    """Refuse what is no device's name, without torch."""
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d{1,3})?", wanted):
        raise InputError(f"--device {wanted!r} is no device. Use cpu, cuda, cuda:0, … or mps.")


def choose_device(wanted: str = "auto") -> torch.device:
    """Return the device a user named, or the best one here.

    Raises:
        InputError: the device is not here, or is no device.
    """
    check_device_name(wanted)
    import torch

    gpus = torch.cuda.device_count()
    if wanted == "auto":
        other = "mps" if torch.backends.mps.is_available() else "cpu"
        wanted = "cuda" if torch.cuda.is_available() else other
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise InputError(
            f"--device {wanted}: there are {gpus} CUDA devices here. "
            "Use --device cpu or leave the option out."
        )
    if device.type == "cuda" and device.index is None:
        # Slurm may show each process its own GPU alone: the rank is then beyond their number.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % gpus)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps: there is none here. Use --device cpu.")
    return device


def check_gpus(wanted: str, processes: int) -> None:
    import torch

    if choose_device(wanted).type == "cuda" and processes > torch.cuda.device_count():
        raise InputError(
            f"{processes} processes need a GPU each, and there are {torch.cuda.device_count()} "
            "here. Start fewer, or use --device cpu."
        )


def half_precision_pays(device: torch.device) -> bool:
    """Say whether bfloat16 is faster than float32: on GPUs that have it and CPUs with AMX.

    Without AMX, bfloat16 on a CPU is several times slower than float32.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())


def choose_precision(wanted: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16 for ``auto`` or what the user wants.

    Raises:
        InputError: fp16 on a device other than a GPU.
    """
    if wanted == "auto":
        return "bf16" if half_precision_pays(device) else "fp32"
    if wanted == "fp16" and device.type != "cuda":
        raise InputError(f"precision fp16 needs a GPU; the device is {device.type}. Use fp32.")
    return wanted


def set_threads(threads: int | None) -> None:
    """Limit the CPU threads of this process, where asked to."""
    if threads is None:
        return
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
    else:  # Read when torch is loaded, and by `cpu_threads`.
        # MKL must not choose fewer threads by itself: torch.set_num_threads tells it so, too.
        given = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        os.environ.update(given, MKL_DYNAMIC="FALSE")


def cpu_threads() -> int:
    """Return how many CPU threads a computation may use; 0 leaves it to the runtime."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a forward pass runs in `precision`."""
    import torch

    if precision == "fp32":
        return contextlib.nullcontext()
    kind = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=kind)
