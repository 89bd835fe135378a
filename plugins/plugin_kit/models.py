"""Conformance checks of encoders, heads and formats."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.extension import Encoder, Head, ModelFormat, ResultColumns, ResultFormat

from .components import check_component, require

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_SHORT, _LONG = "I love it.", "The plot is thin, the jokes are old, and yet I laughed all evening."


def check_encoder(encoder_class: type[Encoder], settings: Mapping[str, Any]) -> None:
    """Load tokenizer and backbone, run two texts through them, save and restore both.

    This needs weights: give settings of a small local model.

    Raises:
        AssertionError: tokenizer, backbone and configuration do not fit.
    """
    encoder = check_component(encoder_class, settings)
    name = encoder_class.__name__
    tokenizer, backbone = encoder.load_tokenizer(), encoder.load_backbone().eval()
    _check_tokenizer(name, tokenizer, int(backbone.config.vocab_size))
    _check_backbone(name, tokenizer, backbone)
    _check_planned(name, encoder, backbone)
    _check_restored(name, encoder, tokenizer, backbone)


def _check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
    require(tokenizer.is_fast, f"{name}.load_tokenizer() must return a fast tokenizer.")
    require(tokenizer.pad_token_id is not None, f"{name}: the tokenizer has no padding token.")
    ids = tokenizer([_SHORT, _LONG], truncation=True, max_length=8)["input_ids"]
    require(
        max(map(len, ids)) <= 8, f"{name}: the tokenizer does not truncate texts to max_length."
    )
    highest = max(max(pieces) for pieces in ids)
    require(highest < vocabulary, f"{name}: the tokenizer gives ids the backbone does not know.")


def _check_backbone(
    name: str, tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel
) -> None:
    import torch

    kinds = {str(weights.dtype) for weights in backbone.parameters()}
    require(kinds == {"torch.float32"}, f"{name}.load_backbone() must be in float32, not {kinds}.")
    require(getattr(backbone, "pooler", None) is None, f"{name}: the backbone must have no pooler.")
    alone = _states(tokenizer, backbone, [_SHORT])
    padded = _states(tokenizer, backbone, [_SHORT, _LONG])
    hidden = int(backbone.config.hidden_size)
    require(
        padded.ndim == 3 and padded.shape[0] == 2 and padded.shape[2] == hidden,
        f"{name}: last_hidden_state must be (texts, word pieces, {hidden}), "
        f"not {tuple(padded.shape)}.",
    )
    require(
        torch.allclose(alone[0], padded[0, : alone.shape[1]], atol=1e-4),
        f"{name}: a text's states change with the padding of its batch.",
    )


def _states(
    tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel, texts: list[str]
) -> Tensor:
    import torch

    inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        states: Tensor = backbone(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).last_hidden_state
    return states


def _check_planned(name: str, encoder: Encoder, backbone: PreTrainedModel) -> None:
    """Check the model that a dry run builds from the configuration, without weights."""
    import torch

    with torch.device("meta"):
        planned = encoder.build_backbone(encoder.load_config())
    require(
        _shapes(planned) == _shapes(backbone),
        f"{name}.build_backbone(load_config()) has other parameters than load_backbone().",
    )


def _check_restored(
    name: str, encoder: Encoder, tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel
) -> None:
    import torch

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        encoder.save(folder, tokenizer, backbone)
        other_tokenizer, other = type(encoder).restore(folder)
    require(
        tokenizer(_LONG)["input_ids"] == other_tokenizer(_LONG)["input_ids"],
        f"{name}: the restored tokenizer splits texts differently.",
    )
    require(
        _shapes(other) == _shapes(backbone), f"{name}: the restored backbone is a different one."
    )
    other.load_state_dict(backbone.state_dict())
    ours = _states(tokenizer, backbone, [_LONG])
    theirs = _states(other_tokenizer, other.eval(), [_LONG])
    require(
        torch.allclose(ours, theirs, atol=1e-5), f"{name}: the restored model gives other states."
    )


def _shapes(backbone: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weights.shape) for name, weights in backbone.named_parameters()}


_TEXTS = 4
#: Hidden sizes and numbers of classes to try.
_SIZES = ((32, 2), (48, 3), (64, 5))


def check_head(head_class: type[Head], settings: Mapping[str, Any]) -> None:
    """Build the head for several sizes; check shapes, gradients, saving and repeatability.

    Raises:
        AssertionError: the core cannot train, save and load the module.
    """
    head = check_component(head_class, settings)
    for hidden_size, classes in _SIZES:
        where = f"{head_class.__name__}.build({hidden_size}, {classes})"
        module = _built(where, head, hidden_size, classes)
        _check_output(where, module, hidden_size, classes)
        _check_gradients(where, module, hidden_size)
        _check_rebuilt(where, head, module, hidden_size, classes)
        _check_planned_head(where, head, module, hidden_size, classes)


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


def _logits(module: nn.Module, pooled: Tensor) -> Tensor:
    """Return the logits of pooled texts; a pooling module gets them as two tokens."""
    import torch

    if hasattr(module, "pool"):
        states = torch.stack([pooled, pooled * 2], dim=1)
        own_pooling: Any = module.pool
        pooled = own_pooling(states, torch.ones(len(pooled), 2, dtype=torch.long))
    logits: Tensor = module(pooled)
    return logits


def _check_output(where: str, module: nn.Module, hidden_size: int, classes: int) -> None:
    import torch

    pooled = torch.randn(_TEXTS, hidden_size)
    module.eval()
    with torch.no_grad():
        logits, alone = _logits(module, pooled), _logits(module, pooled[:1])
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
    texts = torch.randn(_TEXTS, hidden_size)
    others = torch.cat([texts[:1], texts[1:] + 1])
    drawn = []
    for batch in (texts, others):
        torch.manual_seed(0)  # the same dropout
        drawn.append(_logits(module, batch)[0])
    require(
        torch.allclose(drawn[0], drawn[1], atol=1e-5),
        f"{where}: in training a text's logits must not depend on the other texts of the batch, as "
        "batch normalisation makes them: several processes would train another model than one.",
    )
    pooled = torch.randn(64, hidden_size, requires_grad=True)
    _logits(module, pooled).square().sum().backward()  # type: ignore[no-untyped-call]
    require(pooled.grad is not None, f"{where} passes no gradient on to the encoder.")
    idle = [name for name, weights in module.named_parameters() if weights.grad is None]
    require(not idle, f"{where} has parameters without a gradient: {', '.join(idle)}.")


def _check_rebuilt(
    where: str, head: Head, module: nn.Module, hidden_size: int, classes: int
) -> None:
    """Check that settings and state_dict restore the head."""
    import torch

    state = module.state_dict()
    places = [tensor.data_ptr() for tensor in state.values() if tensor.numel()]
    require(len(set(places)) == len(places), f"{where} shares tensors, which cannot be saved.")
    again = head.build(hidden_size, classes)
    again.load_state_dict(state)
    pooled = torch.randn(_TEXTS, hidden_size)
    with torch.no_grad():
        same = torch.equal(_logits(module.eval(), pooled), _logits(again.eval(), pooled))
    require(same, f"{where} with the same weights gives other logits.")


def _check_planned_head(
    where: str, head: Head, module: nn.Module, hidden_size: int, classes: int
) -> None:
    """Check the parameters on the meta device, which a dry run counts."""
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


def check_format(format_class: type[ModelFormat], settings: Mapping[str, Any]) -> None:
    """Check that a format of model folders does not recognise two unrelated folders.

    Raises:
        AssertionError: it cannot be created from defaults, or recognises one of them.
    """
    check_component(format_class, {})
    model_format = check_component(format_class, settings)
    name = format_class.__name__
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        require(model_format.recognises(folder) is False, f"{name} recognises an empty folder.")
        (folder / "config.json").write_text(json.dumps({"made_by": "nobody"}), encoding="utf-8")
        require(model_format.recognises(folder) is False, f"{name} recognises any config.json.")


def check_result_format(format_class: type[ResultFormat], settings: Mapping[str, Any]) -> None:
    """Check that a format of result files does not recognise unrelated columns.

    Raises:
        AssertionError: it recognises them, or names columns that do not exist.
    """
    result_format = check_component(format_class, settings)
    name = format_class.__name__
    for columns in ((), ("text",), ("a", "b"), ("id", "text", "gold", "label", "prediction")):
        found = result_format.columns(columns)
        require(
            found is None or isinstance(found, ResultColumns),
            f"{name}.columns() must return ResultColumns or None, not {found!r}.",
        )
        values = [] if found is None else list(asdict(found).values())
        held = [list(v.values()) if isinstance(v, Mapping) else [v] for v in values]
        absent = sorted({name for names in held for name in names if name} - set(columns))
        require(not absent, f"{name}.columns({columns}) names columns that do not exist: {absent}.")
        require(
            found is None or found.label != found.gold,
            f"{name}.columns({columns}) names {found and found.label!r} for the answer and for the "
            "right label: every answer would be right.",
        )
