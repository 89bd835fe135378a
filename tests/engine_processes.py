"""Training commands and the conformance kit's check of engines, in one of several processes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sentikit.plugins.plugin_kit.checks import check_engine

from sentikit.cli import sentikit
from sentikit.errors import SentikitError
from sentikit.registry import default_registry


def train(arguments: Sequence[str]) -> None:
    """Run ``sentikit train`` here; write what the first process prints beside the run."""
    run = Path(arguments[arguments.index("--output") + 1])
    printed = run.with_suffix(".stdout") if os.environ["RANK"] == "0" else Path(os.devnull)
    with printed.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
    sentikit.main(args=list(arguments), standalone_mode=False)
    sys.stdout.flush()


def check_engines(config: str) -> None:
    """Check the engine torch and deepspeed at all stages, with and without offloading."""
    load = default_registry().load
    check_engine(load("register_engines", "torch"), {})
    deepspeed = load("register_engines", "deepspeed")
    for stage in (0, 1, 2, 3):
        check_engine(deepspeed, {"stage": stage, "config": config})
    for stage in (1, 2, 3):
        check_engine(deepspeed, {"stage": stage, "config": config, "offload_optimizer": True})
    offloading = {"offload_optimizer": True, "offload_parameters": True}
    check_engine(deepspeed, {"stage": 3, "config": config, **offloading})


if __name__ == "__main__":
    try:
        for command in json.loads(sys.argv[2]):
            train(command)
        check_engines(sys.argv[1])
    except (AssertionError, SentikitError) as error:
        print(f"process {os.environ['RANK']}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
