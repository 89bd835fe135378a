"""Memory according to ``--dry-run``, against the memory of processes at each stage of ZeRO.

    python benchmarks/memory.py --processes 2

Trains a BERT of 45 million random weights for three steps of one short text, so that activations
hardly matter, and reads the processes' own memory (RssAnon of /proc/self/status): before the model,
after the last step, and the peak. It runs on a CPU; the sizes are the same on a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

MIB = 2**20
ENGINES = ("torch", "deepspeed 0", "deepspeed 1", "deepspeed 2", "deepspeed 3")


def main() -> None:
    """Measure each engine and stage in separate processes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.processes)
        return
    print(f"{options.processes} processes, MiB each; the third column is what --dry-run says")
    print(f"{'engine':<14} {'between steps':>14} {'dry run':>8} {'ratio':>7} {'highest':>9}")
    for engine in ENGINES:
        found = measured(engine, options.processes)
        between, estimated = found["between"] / MIB, found["estimated"] / MIB
        print(
            f"{engine:<14} {between:>14,.0f} {estimated:>8,.0f} {between / estimated:>7.2f} "
            f"{found['highest'] / MIB:>9,.0f}",
            flush=True,
        )


def measured(engine: str, processes: int) -> dict[str, int]:
    """Run an engine in separate processes; return the memory of the first one."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = [*launcher, f"--nproc-per-node={processes}", __file__, "--worker", engine]
    words += ["--processes", str(processes)]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    done = subprocess.run(words, env=quiet, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def work(name: str, processes: int) -> None:
    """Run three steps in this process and print their memory."""
    import torch

    from sentikit.registry import default_registry
    from sentikit.training.engine import ModelSize, StepPlan
    from sentikit.training.model import ParameterGroup
    from sentikit.training.settings import AdamW

    kind, _, stage = name.partition(" ")
    engine_class = default_registry().load("register_engines", kind)
    settings = {"stage": int(stage)} if stage else {}
    engine = engine_class(engine_class.Settings(**settings))
    engine.start("cpu")
    with torch.device("meta"):
        encoder()  # imports what any model needs
    before = own_memory()
    peak = Peak()
    model = encoder()
    parameters = dict(model.named_parameters())
    count = sum(parameter.numel() for parameter in parameters.values())
    group = ParameterGroup("all", parameters, lr=1e-4, weight_decay=0.0)
    optimizer = AdamW()
    engine.prepare(model, [group], StepPlan(optimizer, 1.0, "fp32", processes, 1))
    for _ in range(3):
        with engine.micro_step(last=True):
            engine.backward(engine.forward(torch.ones((1, 8), dtype=torch.int64)).square().mean())
        engine.step([1e-4])
    highest = peak.stop()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    needs = engine.memory(ModelSize(count, count, optimizer.moments), processes)
    estimated = needs[f"stage {stage}" if stage else "every process"].total
    after = own_memory()
    if engine.is_main_process:
        print(
            json.dumps(
                {"between": after - before, "estimated": estimated, "highest": highest - before}
            )
        )
    engine.finish()


def encoder() -> Any:
    """Build a BERT with a pooled output of 45 million random weights, all of them in use."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=512, num_hidden_layers=9, num_attention_heads=8)
    config.intermediate_size = 2048

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel(config)

        def forward(self, ids: Any) -> Any:
            return self.bert(ids).pooler_output

    return Pooled()


def own_memory() -> int:
    """Return this process's own memory in bytes, without mapped files."""
    status = Path("/proc/self/status").read_text()
    match = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert match
    return 1024 * int(match[1])


class Peak:
    """A thread that observes this process's memory."""

    def __init__(self) -> None:
        self._highest, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the highest value seen."""
        self._done.set()
        self._thread.join()
        return self._highest

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._highest = max(self._highest, own_memory())


if __name__ == "__main__":
    main()
