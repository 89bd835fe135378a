"""LoRA adapters: low-rank changes to a causal language model, stored in peft's format.

::

    adapter_config.json          peft's: the base model's name, rank, layers
    adapter_model.safetensors    what was learnt
    base_model.json              some of the base model's weights, to recognise it
    tokenizer.json, …            the tokenizer with its chat template

peft and servers such as vLLM (``--enable-lora --lora-modules NAME=FOLDER``) read the folder
(https://huggingface.co/docs/peft, https://docs.vllm.ai/en/latest/features/lora.html).
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sentikit import InputError
from sentikit.extension import folder_writer, read_json, read_weights, write_json, write_weights

from .loading import ModelSource, load_model, load_tokenizer, named_source

if TYPE_CHECKING:
    from .finetuning_settings import LoraSettings
    from .settings import LocalSettings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BASE = "base_model.json"
#: Number of the base model's weights to store, and the tolerance for rounding.
_NOTED, _ROUNDING = 64, 0.02


def peft() -> Any:
    """Import peft.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise InputError(
            "Fine-tuned local models need the package peft. "
            "Install it with: pip install 'sentikit[local]'"
        ) from error


def is_adapter(folder: Path) -> bool:
    """Return whether a folder has an adapter and no whole model."""
    return (folder / CONFIG).is_file()


def new_adapter(model: Any, source: ModelSource, settings: LoraSettings, seed: int) -> Any:
    """Return the model with a new adapter that changes nothing yet, initialised by the seed.

    Raises:
        InputError: the model has no such layers, or peft is missing.
    """
    name = source.name if source.path is None else str(source.path.resolve())
    torch.manual_seed(seed)
    try:
        config = peft().LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=settings.targets,
            revision=source.revision,
        )
        adapted = _adapted(model, config)
    except ValueError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"finetune.lora: {reason}") from error
    # transformers names a GGUF file by its folder only.
    adapted.peft_config["default"].base_model_name_or_path = name
    return adapted


def save_adapter(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write the folder described above; it appears only when it is complete.

    Args:
        folder: the folder to write.
        model: as `new_adapter` returned it.
        tokenizer: of the base model.

    Raises:
        SentikitError: the folder cannot be written.
    """
    config = model.peft_config["default"]
    learnt = peft().get_peft_model_state_dict(model, save_embedding_layers=False)
    with folder_writer(folder) as temporary:
        write_weights(temporary / WEIGHTS, {k: t.detach().cpu() for k, t in learnt.items()})
        write_json(temporary / CONFIG, _plain(config.to_dict() | {"inference_mode": True}))
        write_json(temporary / _BASE, {"weights": _noted(model)})
        tokenizer.save_pretrained(temporary)


def load_answering_model(settings: LocalSettings, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load the model or adapter that a recipe's ``llm.model`` names, and its tokenizer.

    Raises:
        InputError: no such model, an adapter of another one, or peft is missing.
        SentikitError: the hub cannot be reached.
    """
    source = named_source(settings.model, settings.revision, "llm.model")
    if source.path is None or not is_adapter(source.path):
        return load_model(source, dtype), load_tokenizer(source)
    folder = source.path
    learnt = read_weights(folder / WEIGHTS)
    model = load_model(base_of(folder, settings.base), dtype)
    _check_base(folder, model)
    adapted = _with_weights(model, folder, learnt)
    if dtype == torch.float32:
        # Merging is faster, but in half precision, rounding would lose the small changes.
        adapted = adapted.merge_and_unload()
    return adapted, load_tokenizer(source)


def model_fingerprint(settings: LocalSettings) -> str:
    """Return a hash of a model's files, including those of an adapter's base model.

    Raises:
        InputError: an adapter's configuration is damaged.
    """
    source = named_source(settings.model, settings.revision, "llm.model")
    if source.path is None or not is_adapter(source.path):
        return source.fingerprint()
    return f"{source.fingerprint()} {base_of(source.path, settings.base).fingerprint()}"


def base_of(folder: Path, instead: str | None) -> ModelSource:
    """Return the place of an adapter's base model: `instead`, or where it was in training.

    Raises:
        InputError: the adapter's configuration is damaged, or of another kind than LoRA.
    """
    config = read_json(folder / CONFIG)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise InputError(f"{folder / CONFIG} describes no LoRA adapter, but {kind!r}.")
    key = f"llm.base, or base_model_name_or_path in {folder / CONFIG}"
    if instead:
        return ModelSource(instead, None, key)
    return ModelSource(str(config.get("base_model_name_or_path")), config.get("revision"), key)


def _with_weights(model: Any, folder: Path, learnt: dict[str, torch.Tensor]) -> Any:
    config = peft().LoraConfig.from_pretrained(str(folder))
    adapted = _adapted(model, config)
    try:
        result = peft().set_peft_model_state_dict(adapted, learnt)
    except RuntimeError as error:
        raise _another_base(folder) from error
    if result.unexpected_keys or [name for name in result.missing_keys if "lora_" in name]:
        raise _another_base(folder)
    return adapted


def _adapted(model: Any, config: Any) -> Any:
    config.base_model_name_or_path = None  # peft warns about it
    with warnings.catch_warnings():
        # peft uses a name that transformers has changed.
        warnings.simplefilter("ignore", FutureWarning)
        return peft().get_peft_model(model, config)


def _check_base(folder: Path, model: Any) -> None:
    """Refuse a base model other than the one the adapter was trained on.

    Raises:
        InputError: it is a different one.
    """
    if not (folder / _BASE).is_file():
        return  # an adapter of another program
    then, now = read_json(folder / _BASE)["weights"], _noted(model)
    alike = len(then) == len(now) and torch.allclose(
        torch.tensor(then), torch.tensor(now), rtol=_ROUNDING, atol=_ROUNDING / 100
    )
    if not alike:
        raise _another_base(folder)


def _noted(model: Any) -> list[float]:
    """Return some weights of a base model, spread over its layers."""
    weights = [p for n, p in model.named_parameters() if "lora_" not in n]
    chosen = weights[:: max(1, len(weights) // _NOTED)][:_NOTED]
    return [weight.detach().flatten()[0].float().item() for weight in chosen]


def _another_base(folder: Path) -> InputError:
    name = read_json(folder / CONFIG).get("base_model_name_or_path")
    return InputError(
        f"The adapter in {folder} was trained on another model than {name} is now. Give the one it "
        "was trained on as llm.base, or fine-tune again."
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as JSON values in a fixed order."""
    sets = {name: sorted(value) for name, value in values.items() if isinstance(value, set)}
    return {name: getattr(value, "value", value) for name, value in values.items()} | sets
