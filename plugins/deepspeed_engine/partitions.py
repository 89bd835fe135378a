"""Conversion between whole tensors and ZeRO's partitions.

ZeRO 1 and 2 have flat partitions of each group's parameters, ZeRO 3 of each parameter. The
``safe_*`` functions (https://deepspeed.readthedocs.io/en/latest/zero3.html#debugging) gather them;
every process must call the functions of this module in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from deepspeed import zero
from deepspeed.utils import (
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn


def whole_weights(model: nn.Module, keep: bool) -> dict[str, Tensor]:
    """Return parameters and buffers in float32 on the CPU, or nothing unless `keep`."""
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        with zero.GatheredParameters([tensor], enabled=_by_parameter(tensor)):
            if keep:
                value = tensor.detach().cpu().clone()
                found[name] = value.float() if value.is_floating_point() else value
    return found


def set_whole_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set parameters and buffers, and the partitions that the optimizer works on."""
    for name, tensor in model.state_dict(keep_vars=True).items():
        value = weights[name]
        by_parameter = _by_parameter(tensor)
        with zero.GatheredParameters([tensor], modifier_rank=0, enabled=by_parameter):
            tensor.data.copy_(value)
        if not tensor.requires_grad:
            continue
        if by_parameter:
            safe_set_local_fp32_param(tensor, _own_part(tensor, value))
        else:
            safe_set_full_fp32_param(tensor, value)


def whole_optimizer_state(
    optimizer: Any, names: Mapping[nn.Parameter, str], keep: bool
) -> dict[str, Tensor]:
    """Return a ZeRO optimizer's tensors as ``parameter/key``, or nothing unless `keep`.

    ZeRO's counts for a partition, such as the number of steps, are returned for each parameter.
    """
    found: dict[str, Tensor] = {}
    for partition, parameters in _partitions(optimizer):
        state = optimizer.optimizer.state[partition]
        _link(partition, parameters, state)
        for parameter in parameters:
            for key, value in state.items():
                if value.ndim:
                    value = safe_get_full_optimizer_state(parameter, key)
                if keep:
                    found[f"{names[parameter]}/{key}"] = value.detach().cpu().clone()
    return found


def set_whole_optimizer_state(
    optimizer: Any, names: Mapping[nn.Parameter, str], state: Mapping[str, Tensor]
) -> None:
    """Set a ZeRO optimizer's tensors, before or after its first step."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for entry, value in state.items():
        name, _, key = entry.rpartition("/")
        by_name.setdefault(name, {})[key] = value
    on_device = any(group.get("fused") for group in optimizer.param_groups)
    for partition, parameters in _partitions(optimizer):
        given = {p: by_name[names[p]] for p in parameters if names[p] in by_name}
        own = _empty_state(partition, given.values(), on_device)
        optimizer.optimizer.state[partition] = own
        _link(partition, parameters, own)
        for parameter, values in given.items():
            for key, value in values.items():
                if not value.ndim:
                    continue
                if _by_parameter(parameter):
                    part = _own_part(parameter, value)
                    safe_set_local_optimizer_state(parameter, part, key)
                else:
                    safe_set_full_optimizer_state(parameter, value, key)


def _empty_state(partition: Tensor, given: Any, on_device: bool) -> dict[str, Tensor]:
    """Return a partition's state of zeros, with the highest of the counts.

    Fused optimizers need counts on the device, others on the CPU.
    """
    state: dict[str, Tensor] = {}
    for values in given:
        for key, value in values.items():
            if value.ndim:
                state.setdefault(key, torch.zeros_like(partition, requires_grad=False))
            elif key not in state or float(value) > float(state[key]):
                state[key] = value.clone().to(partition.device if on_device else "cpu")
    return state


def _by_parameter(tensor: Tensor) -> bool:
    """Return whether ZeRO 3 has partitioned a parameter."""
    return hasattr(tensor, "ds_id")


def _own_part(parameter: Any, value: Tensor) -> Tensor:
    """Return this process's part of a whole tensor; the last parts are padded with zeros."""
    size = parameter.ds_tensor.numel()
    start = size * torch.distributed.get_rank()
    part = torch.zeros(size, dtype=torch.float32)
    held = value.reshape(-1)[start : start + size]
    part[: held.numel()] = held
    return part


def _partitions(optimizer: Any) -> Iterator[tuple[Tensor, list[Any]]]:
    """Yield the partitions of a ZeRO optimizer, each with its parameters."""
    if hasattr(optimizer, "fp32_partitioned_groups_flat"):
        yield from zip(optimizer.fp32_partitioned_groups_flat, optimizer.fp16_groups, strict=True)
    else:
        yield from zip(
            optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups, strict=True
        )


def _link(partition: Tensor, parameters: list[Any], state: dict[str, Tensor]) -> None:
    """Tell ZeRO 1 and 2 the place of a parameter's part in the optimizer state.

    DeepSpeed does so once, after the first group's first step, when other groups have no state.
    """
    for parameter in parameters:
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is not None:
            mapping.set_optim_state_fragment(partition, state)
