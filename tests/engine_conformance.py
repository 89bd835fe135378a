"""The conformance kit's check of both engines in every process; run by torchrun."""

from __future__ import annotations

import os
import sys

from sentikit.plugins.plugin_kit.checks import check_engine

from sentikit.errors import SentikitError
from sentikit.registry import default_registry


def main(config: str) -> None:
    """Check the engine torch and, where it is installed, deepspeed at all stages."""
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
        main(sys.argv[1])
    except (AssertionError, SentikitError) as error:
        print(f"process {os.environ['RANK']}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
