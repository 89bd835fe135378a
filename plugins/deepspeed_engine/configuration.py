"""DeepSpeed's configuration: the user's file, overridden by the recipe.

Keys: https://www.deepspeed.ai/docs/config-json/
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sentikit import InputError
from sentikit.extension import ComponentSettings, StepPlan, disk_errors

#: Keys that the recipe decides, and the setting that decides each.
OWNED: dict[str, str] = {
    "train_batch_size": "training.batch_size",
    "train_micro_batch_size_per_gpu": "training.micro_batch_size",
    "gradient_accumulation_steps": "training.micro_batch_size",
    "gradient_clipping": "training.clip_norm",
    "optimizer": "training.optimizer",
    "scheduler": "training.schedule",
    "fp16": "training.precision",
    "bf16": "training.precision",
    "bfloat16": "training.precision",
    "amp": "training.precision",
    "torch_autocast": "training.precision",
    "data_types": "training.precision",
    "steps_per_print": "sentikit's own log",
    "prescale_gradients": "always a plain mean",
    "gradient_predivide_factor": "always a plain mean",
    "gradient_allreduce_op": "always a plain mean",
    "managed_gradient_accumulation": "the last batch of an epoch may be smaller",
    "zero_allow_untested_optimizer": "training.optimizer",
    "zero_force_ds_cpu_optimizer": "training.optimizer",
}
#: Size of the buffer for exchanging gradients. DeepSpeed's default takes 2 GB, more than an
#: encoder's weights.
BUCKET = 2**25
_OFFLOADS = {"offload_optimizer": "offload_optimizer", "offload_parameters": "offload_param"}


class DeepSpeedSettings(ComponentSettings):
    """The engine section: how the training state is partitioned and offloaded."""

    stage: Literal[0, 1, 2, 3] = Field(
        2,
        description="what ZeRO partitions: 1 optimizer state, 2 also gradients, 3 also parameters",
    )
    offload_optimizer: bool = Field(
        False, description="keep optimizer state in the CPU's memory; stages 1 to 3"
    )
    offload_parameters: bool = Field(
        False, description="keep idle parameters in the CPU's memory; stage 3"
    )
    config: str | None = Field(
        None, description="a DeepSpeed JSON file for everything else; the recipe takes precedence"
    )


@dataclass(frozen=True)
class Configuration:
    """The configuration that DeepSpeed starts with.

    Attributes:
        values: the configuration, without what depends on the steps.
        stage: of ZeRO.
        overridden: keys of the user's file that the recipe overrides, and the settings that do.
        path: the user's file, or None.
    """

    values: dict[str, Any]
    stage: int
    overridden: dict[str, str]
    path: str | None

    def for_steps(self, plan: StepPlan, processes: int) -> dict[str, Any]:
        """Return the complete configuration for the planned batches."""
        share = -(-plan.batch_size // processes)
        return {
            **self.values,
            "train_micro_batch_size_per_gpu": plan.micro_batch_size,
            "gradient_accumulation_steps": -(-share // plan.micro_batch_size),
            # Without ZeRO the engine clips itself, because DeepSpeed does not return a norm.
            "gradient_clipping": (plan.clip_norm or 0.0) if self.stage else 0.0,
        }


def configure(settings: DeepSpeedSettings) -> Configuration:
    """Merge the user's file and the engine section, which takes precedence.

    Raises:
        InputError: the file cannot be read, or the stage does not support an offload.
    """
    given = _read(settings.config)
    overridden = {key: place for key, place in OWNED.items() if key in given}
    zero = given.get("zero_optimization", {})
    if not isinstance(zero, Mapping):
        raise InputError(f"{settings.config}: zero_optimization must be an object.")
    zero = dict(zero)
    for key, value in _decided(settings, zero).items():
        if key in zero and zero[key] != value:
            overridden[f"zero_optimization.{key}"] = "the engine section"
        zero[key] = value
    _check(zero)
    zero.setdefault("reduce_bucket_size", BUCKET)
    values = {key: value for key, value in given.items() if key not in OWNED}
    values |= {
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": sys.maxsize,
    }
    return Configuration(values, zero["stage"], overridden, settings.config)


def _decided(settings: DeepSpeedSettings, zero: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section's ZeRO settings; the user's file overrides defaults."""
    decided: dict[str, Any] = {}
    if "stage" in settings.model_fields_set or "stage" not in zero:
        decided["stage"] = settings.stage
    for field, key in _OFFLOADS.items():
        if field not in settings.model_fields_set:
            continue
        own = zero.get(key) if isinstance(zero.get(key), Mapping) else {}
        decided[key] = {**(own or {}), "device": "cpu" if getattr(settings, field) else "none"}
    return decided


def _check(zero: Mapping[str, Any]) -> None:
    stage = zero["stage"]
    if isinstance(stage, bool) or stage not in (0, 1, 2, 3):
        raise InputError(f"DeepSpeed's zero_optimization.stage must be 0 to 3, not {stage!r}.")
    if _offloads(zero, "offload_optimizer") and stage == 0:
        raise InputError(
            "engine.offload_optimizer needs ZeRO stage 1, 2 or 3. Set engine.stage=1 or higher."
        )
    if _offloads(zero, "offload_param") and stage != 3:
        raise InputError(
            f"engine.offload_parameters needs ZeRO stage 3, the stage is {stage}. "
            "Set engine.stage=3."
        )


def _offloads(zero: Mapping[str, Any], key: str) -> bool:
    section = zero.get(key)
    return isinstance(section, Mapping) and section.get("device", "none") != "none"


def _read(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    with disk_errors(path):
        text = Path(path).expanduser().read_text(encoding="utf-8", errors="replace")
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"engine.config: {path}, line {error.lineno}: not valid JSON ({error.msg})."
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"engine.config: {path} must contain a JSON object with DeepSpeed's keys.")
    pruned: dict[str, Any] = _without_auto(values)
    return pruned


def _without_auto(value: Any) -> Any:
    """Drop keys set to "auto", which files for transformers' Trainer contain."""
    if not isinstance(value, dict):
        return value
    return {key: _without_auto(inner) for key, inner in value.items() if inner != "auto"}
