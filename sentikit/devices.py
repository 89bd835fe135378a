"""The choice of device, CPU threads and precision."""

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
    """The properties of the machine that choose an engine.

    Attributes:
        gpus: number of CUDA devices.
        processes: number of processes of this job.
    """

    gpus: int
    processes: int


def find_hardware() -> Hardware:
    """Return the hardware of this machine and the number of processes of this job."""
    gpus = 0
    if "torch" in sys.modules or _may_have_gpus():
        import torch

        gpus = torch.cuda.device_count()
    return Hardware(gpus, int(os.environ.get("WORLD_SIZE", "1")))


def check_device(wanted: str) -> None:
    """Refuse an unknown device, or a GPU on a machine without a driver, without importing torch."""
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d{1,3})?", wanted):
        raise InputError(f"--device {wanted!r} is not a device. Use cpu, cuda, cuda:0, … or mps.")
    if wanted.startswith("cuda") and "torch" not in sys.modules and not _may_have_gpus():
        raise _no_gpu(wanted, 0)


def _may_have_gpus() -> bool:
    """Return whether the driver of a GPU is there; torch calls those of AMD CUDA devices too."""
    if sys.platform != "linux" or os.path.exists("/dev/kfd"):
        return True
    import ctypes

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _no_gpu(wanted: str, gpus: int) -> InputError:
    return InputError(
        f"--device {wanted}: this machine has {gpus} CUDA devices. "
        "Use --device cpu, or leave out the option."
    )


def choose_device(wanted: str = "auto") -> torch.device:
    """Return the device that the user named, or the best one of this machine.

    Raises:
        InputError: the device is unknown or not available.
    """
    check_device(wanted)
    import torch

    gpus = torch.cuda.device_count()
    if wanted == "auto":
        other = "mps" if torch.backends.mps.is_available() else "cpu"
        wanted = "cuda" if torch.cuda.is_available() else other
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise _no_gpu(wanted, gpus)
    if device.type == "cuda" and device.index is None:
        # Slurm may show each process only its own GPU, so the rank may exceed their number.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % gpus)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps: this machine has none. Use --device cpu.")
    return device


def check_gpus(wanted: str, processes: int) -> None:
    import torch

    if choose_device(wanted).type == "cuda" and processes > torch.cuda.device_count():
        raise InputError(
            f"{processes} processes need one GPU each, but this machine has "
            f"{torch.cuda.device_count()}. Start fewer, or use --device cpu."
        )


def half_precision_pays(device: torch.device) -> bool:
    """Return whether bfloat16 is faster than float32: on GPUs that have it and CPUs with AMX.

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
        raise InputError(f"precision fp16 needs a GPU, but the device is {device.type}. Use fp32.")
    return wanted


def set_threads(threads: int | None) -> None:
    """Limit the CPU threads of this process; None changes nothing."""
    if threads is None:
        return
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
    else:  # Read when torch is loaded, and by ONNX Runtime.
        # As torch.set_num_threads does, keep MKL from choosing fewer threads.
        given = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        os.environ.update(given, MKL_DYNAMIC="FALSE")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a forward pass runs in `precision`."""
    import torch

    if precision == "fp32":
        return contextlib.nullcontext()
    kind = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=kind)
