"""The generator of docs/settings.md, from schemas of the code; `--check` only compares."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from marked_part import write_or_check
from pydantic_core import PydanticUndefined

import sentikit
from sentikit.extension import ComponentSettings
from sentikit.hookspecs import KINDS
from sentikit.registry import default_registry

TARGET = Path(__file__).parent / "settings.md"
_RECIPES = ("TrainRecipe", "PromptRecipe", "FinetuneRecipe", "CascadeRecipe", "VoteRecipe")
#: Keys of a section that work with every component of a kind, by the section's name.
_SECTIONS = {
    "dataset": "DatasetOptions",
    "encoder": "EncoderOptions",
    "head": "HeadOptions",
    "llm": "LLMOptions",
    "strategy": "StrategyOptions",
    "finetune": "FinetuneOptions",
}
#: What a section's component is called in headings.
_COMPONENTS = {
    "dataset": "dataset",
    "encoder": "encoder",
    "head": "head",
    "llm": "LLM backend",
    "strategy": "prompt strategy",
    "finetune": "fine-tuner",
}


def reference() -> str:
    """Return every key of every section, and every bundled component's own, as Markdown."""
    known = _core_schemas()
    lines = ["## Kinds of recipes", ""]
    for name in _RECIPES:
        lines += _table(f"### `kind: {_kind(known[name])}`", known[name])
    lines += ["## Sections", ""]
    for section, name in _SECTIONS.items():
        lines += _table(f"### `{section}`: keys of every {_COMPONENTS[section]}", known[name])
    lines += ["## Bundled components", ""]
    registry = default_registry()
    for hook, kind in KINDS.items():
        if hook in ("register_recipes", "register_commands"):
            continue
        for name in registry.names(hook):
            settings = registry.load(hook, name).Settings
            if settings.model_fields:
                lines += _table(f"### {kind[0].upper()}{kind[1:]} `{name}`", settings)
    return "\n".join(lines).rstrip() + "\n"


def _core_schemas() -> dict[str, type[ComponentSettings]]:
    for module in pkgutil.walk_packages(sentikit.__path__, "sentikit."):
        if not module.name.startswith(("sentikit.cli", "sentikit.plugins", "sentikit.__main__")):
            importlib.import_module(module.name)
    return {model.__name__: model for model in _below(ComponentSettings)}


def _below(model: type[ComponentSettings]) -> Iterator[type[ComponentSettings]]:
    for child in model.__subclasses__():
        yield child
        yield from _below(child)


def _kind(model: type[ComponentSettings]) -> str:
    return str(model.model_fields["kind"].default)


def _table(heading: str, model: type[ComponentSettings]) -> Iterator[str]:
    yield heading
    yield ""
    summary = (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")
    if summary and "ComponentSettings" not in summary and not summary.startswith("Base of"):
        yield re.sub(r"``(.*?)``", r"`\1`", summary)
        yield ""
    yield "| key | value | default | |"
    yield "|---|---|---|---|"
    yield from _rows(model, "")
    yield ""


def _rows(model: type[ComponentSettings], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in ("kind",) or (name == "description" and not prefix):
            continue
        inner = _models_in(field.annotation)
        default = _default(field)
        described = (field.description or "").replace("|", "\\|")
        yield f"| `{prefix}{name}` | {_type(field.annotation)} | {default} | {described} |"
        for own in inner:
            if own.model_fields:
                label = own.model_fields.get("name")
                chosen = f"`{label.default}`: " if label is not None else ""
                entry = f"{name}.NAME" if get_origin(field.annotation) is dict else name
                for row in _rows(own, f"{prefix}{entry}."):
                    if f"`{prefix}{entry}.name`" not in row:
                        key, rest = row[2:].split(" | ", 1)
                        head, _, tail = rest.rpartition(" | ") if chosen else (rest, "", "")
                        yield (
                            f"| {key} | {head} | {chosen}{tail}".replace("`:  |", "` |")
                            if chosen
                            else row
                        )


def _models_in(annotation: Any) -> list[type[ComponentSettings]]:
    if inspect.isclass(annotation) and issubclass(annotation, ComponentSettings):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined:
        value = field.default_factory()
    if isinstance(value, ComponentSettings):
        named = getattr(value, "name", "")
        return f"`{named}`" if named else ""
    shown = {None: "null", True: "true", False: "false"}.get(value) if _plain(value) else None
    return f"`{shown or value}`" if value not in ("", {}, [], ()) else ""


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(own) for own in inner))
    if origin in (list, tuple, set, frozenset):
        return f"list of {_type(inner[0])}" if inner else "list"
    if origin is dict:
        return "mapping"
    if inspect.isclass(annotation) and issubclass(annotation, ComponentSettings):
        return "section"
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return words.get(annotation, {type(None): "null", Path: "path"}.get(annotation, "value"))


if __name__ == "__main__":
    write_or_check(TARGET, reference())
