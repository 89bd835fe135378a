"""Safetensors files and pretrained weights, with checks that they fit their configuration."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.errors import InputError, SentikitError, quoted
from sentikit.files import disk_errors, read_json

if TYPE_CHECKING:
    from torch import Tensor

#: A layer of pretraining that encoders drop; many checkpoints do not have it.
POOLER = r"(^|\.)pooler\."
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")

#: Keys of a configuration that are dimensions of tensors, and those that count layers.
_WIDTHS = (
    "hidden_size",
    "intermediate_size",
    "embedding_size",
    "vocab_size",
    "num_attention_heads",
)
_DEPTHS = ("num_hidden_layers",)
#: Keys that count the rows of a tensor, which not every architecture has, and its name.
_ROWS = {
    "max_position_embeddings": "position_embeddings",
    "type_vocab_size": "token_type_embeddings",
}
_MAY_NAME_CODE = ("config.json", "tokenizer_config.json")


def refuse_foreign_code(folder: Path) -> None:
    """Refuse a model folder whose configuration names Python code that comes with the model.

    Raises:
        InputError: its ``config.json`` or ``tokenizer_config.json`` has an ``auto_map``.
    """
    for name in _MAY_NAME_CODE:
        config = read_json(folder / name) if (folder / name).is_file() else None
        if isinstance(config, dict) and config.get("auto_map"):
            raise InputError(
                f"{folder} needs Python code that comes with the model (auto_map in {name}), which "
                "sentikit does not run. Use a model whose architecture is part of transformers."
            )


def refuse_impossible_sizes(folder: Path, weights: Path) -> None:
    """Refuse a configuration whose sizes the weights cannot have, before a model is built.

    Args:
        folder: the folder of a transformers ``config.json``.
        weights: the model's safetensors file, or the path of a sharded model's; only headers are
            read.

    Raises:
        InputError: a size is not a count, or larger than in the weights.
    """
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    shards = sorted(weights.parent.glob("model-*-of-*.safetensors"))
    shapes: dict[str, tuple[int, ...]] = {}
    for file in [weights, *shards]:
        shapes |= _header_shapes(file) if file.is_file() else {}
    if not isinstance(config, dict):
        raise InputError(f"{folder / 'config.json'} is not a model's configuration.")
    longest = max((size for shape in shapes.values() for size in shape), default=None)
    most = dict.fromkeys(_WIDTHS, longest) | dict.fromkeys(_DEPTHS, len(shapes) or None)
    for key, tensor in _ROWS.items():
        rows = [s[0] for name, s in shapes.items() if s and name.endswith(f"{tensor}.weight")]
        most |= {key: max(rows)} if rows and key in config else {}
    for key, limit in most.items():
        value = config.get(key, 1)
        if not _is_count(value) or value < 1 or (limit is not None and value > limit):
            wanted = "at least 1" if limit is None else f"from 1 to {limit:,}"
            raise _misfit(folder, key, value, wanted)
    padding, words = config.get("pad_token_id"), config.get("vocab_size", longest or 0)
    if padding is not None and not (_is_count(padding) and -words <= padding < words):
        raise _misfit(folder, "pad_token_id", padding, f"from 0 to {words - 1:,}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _misfit(folder: Path, key: str, value: object, wanted: str) -> InputError:
    return InputError(
        f"{folder / 'config.json'} does not fit its weights: {key} is {quoted(value)}, but must be "
        f"{wanted}."
    )


def _header_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with disk_errors(path), safe_open(path, "np") as stored:
            names = list(stored.keys())
            return {name: tuple(stored.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or truncated ({error}). Copy it again.") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: missing, damaged, or only pickled weights are there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    pickled = [p.name for pattern in _PICKLED for p in sorted(path.parent.glob(pattern))]
    if not path.is_file() and pickled:
        raise InputError(
            f"{path.parent} has only pickled weights ({pickled[0]}), which can run code when "
            "loaded and are refused. If you trust them, convert them to safetensors."
        )
    with disk_errors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is damaged or truncated ({error}). Copy it again.") from error


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file, not atomically.

    Raises:
        SentikitError: the disk is full or fails.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    with disk_errors(path):
        try:
            save_file(contiguous, path, metadata={"format": "pt"})
        except SafetensorError as error:
            if "os error 28" in str(error):
                raise SentikitError(
                    f"The disk is full: {path} could not be written. Earlier files are intact. "
                    "Free some space and try again."
                ) from error
            raise SentikitError(f"{path} could not be written ({error}).") from error


def load_pretrained(
    auto_class: Any,
    model: str,
    *,
    dtype: Any,
    trust_remote_code: bool,
    may_miss: str | None = None,
    **options: Any,
) -> Any:
    """Load a transformers model, and refuse weights that do not fit its configuration.

    The library itself would initialise missing weights randomly.

    Args:
        auto_class: a class such as ``transformers.AutoModel``.
        model: a hub id, or a folder.
        dtype: type of the weights.
        trust_remote_code: whether Python code that comes with the model may run.
        may_miss: pattern of tensors that may be missing.
        options: further options of ``from_pretrained``.

    Raises:
        InputError: a tensor is missing, has another shape, or belongs to a layer that the
            configuration lacks; the message names it.
    """
    with _quiet_transformers():
        loaded, report = auto_class.from_pretrained(
            model,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    missing = {
        name for name in report["missing_keys"] if may_miss is None or not re.search(may_miss, name)
    }
    shapes = {
        name: (tuple(found), tuple(wanted)) for name, found, wanted in report["mismatched_keys"]
    }
    refuse_unfitting(model, missing, shapes, report["unexpected_keys"])
    _refuse_further_layers(model, loaded, report["unexpected_keys"])
    return loaded


def _refuse_further_layers(source: str, model: Any, unknown: Iterable[str]) -> None:
    own = {re.sub(r"\d+", "#", name) for name in model.state_dict()}
    prefix = f"{model.base_model_prefix}."
    further = [
        name
        for name in unknown
        if own & {re.sub(r"\d+", "#", named) for named in (name, name.removeprefix(prefix))}
    ]
    if further:
        raise InputError(
            f"{source} does not fit its config.json, which has fewer layers: {_tensors(further)} "
            "would be left out. Correct num_hidden_layers, or remove these tensors."
        )


def refuse_unfitting(
    source: str | Path,
    missing: Collection[str],
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
    unknown: Collection[str],
    *,
    exact: bool = False,
) -> None:
    """Refuse weights that would leave part of a model randomly initialised.

    `shapes` are the found and expected shapes of mismatched tensors. Pretrained models often have
    other heads, so `unknown` tensors alone are refused only if `exact`.
    """
    faults = []
    if missing:
        faults.append(f"{_tensors(missing)} missing")
    if shapes:
        name, (found, wanted) = min(shapes.items())
        more = f", and {len(shapes) - 1} more of another shape" if len(shapes) > 1 else ""
        faults.append(f"{name} has shape {found} instead of {wanted}{more}")
    if unknown and (missing or exact):
        faults.append(f"{_tensors(unknown)} unknown")
    if faults:
        raise InputError(
            f"{source} does not fit its config.json: {'; '.join(faults)}. Copy or convert it "
            "again; missing weights would be random."
        )


def _tensors(names: Collection[str]) -> str:
    """Return names for a message: the first three, and how many there are."""
    listed = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} ({listed})"


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hide the library's progress bar and its load report, which `load_pretrained` evaluates."""
    from transformers.utils import logging

    before, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if had_bar:
            logging.enable_progress_bar()
