"""What is expected of a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.head import Head, HeadOptions
from sentikit.testing.parts import check_part, require

if TYPE_CHECKING:
    from torch import nn

_TEXTS = 4
#: Hidden sizes and numbers of classes to try.
_SIZES = ((32, 2), (48, 3), (64, 5))


def check_head(head_class: type[Head], settings: Mapping[str, Any]) -> None:
    """Build the head for several sizes; check shapes, gradients, saving and repeatability.

    Raises:
        AssertionError: the module is not one the core can train, save and load.
    """
    head = check_part(head_class, settings, HeadOptions.model_fields)
    for hidden_size, classes in _SIZES:
        where = f"{head_class.__name__}.build({hidden_size}, {classes})"
        module = _built(where, head, hidden_size, classes)
        _check_output(where, module, hidden_size, classes)
        _check_gradients(where, module, hidden_size)
        _check_rebuilt(where, head, module, hidden_size, classes)
        _check_planned(where, head, module, hidden_size, classes)


def _built(where: str, head: Head, hidden_size: int, classes: int) -> nn.Module:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = head.build(hidden_size, classes)
    require(isinstance(module, nn.Module), f"{where} must return a torch.nn.Module.")
    torch.manual_seed(0)
    again = head.build(hidden_size, classes)
    require(_equal(module, again), f"{where} must draw its weights from torch's seeded generator.")
    return module


def _check_output(where: str, module: nn.Module, hidden_size: int, classes: int) -> None:
    import torch

    pooled = torch.randn(_TEXTS, hidden_size)
    module.eval()
    with torch.no_grad():
        logits, alone = module(pooled), module(pooled[:1])
    require(
        tuple(logits.shape) == (_TEXTS, classes),
        f"{where} must turn ({_TEXTS}, {hidden_size}) into ({_TEXTS}, {classes}), "
        f"not {tuple(logits.shape)}.",
    )
    require(bool(logits.isfinite().all()), f"{where} gives NaN or infinite logits.")
    require(
        torch.allclose(logits[:1], alone, atol=1e-5),
        f"{where}: a text's logits must not depend on the other texts of the batch.",
    )


def _check_gradients(where: str, module: nn.Module, hidden_size: int) -> None:
    import torch

    module.train()
    pooled = torch.randn(64, hidden_size, requires_grad=True)
    module(pooled).square().sum().backward()
    require(pooled.grad is not None, f"{where} passes no gradient on to the encoder.")
    idle = [name for name, weights in module.named_parameters() if weights.grad is None]
    require(not idle, f"{where} has parameters without a gradient: {', '.join(idle)}.")


def _check_rebuilt(
    where: str, head: Head, module: nn.Module, hidden_size: int, classes: int
) -> None:
    """A saved model is the head's settings and its state_dict."""
    import torch

    state = module.state_dict()
    places = [tensor.data_ptr() for tensor in state.values() if tensor.numel()]
    require(len(set(places)) == len(places), f"{where} shares tensors, which cannot be saved.")
    again = head.build(hidden_size, classes)
    again.load_state_dict(state)
    pooled = torch.randn(_TEXTS, hidden_size)
    with torch.no_grad():
        same = torch.equal(module.eval()(pooled), again.eval()(pooled))
    require(same, f"{where} with the same weights gives other logits.")


def _check_planned(
    where: str, head: Head, module: nn.Module, hidden_size: int, classes: int
) -> None:
    """A dry run counts parameters on the meta device."""
    import torch

    with torch.device("meta"):
        planned = head.build(hidden_size, classes)
    require(
        {name: tensor.shape for name, tensor in planned.state_dict().items()}
        == {name: tensor.shape for name, tensor in module.state_dict().items()},
        f"{where} has other parameters on the meta device.",
    )


def _equal(first: nn.Module, second: nn.Module) -> bool:
    import torch

    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
