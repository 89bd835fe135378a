"""Checks settings against their schemas and says everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sentikit.errors import InputError, did_you_mean
from sentikit.parts import Part
from sentikit.registry import Registry

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a setting.

    Attributes:
        path: keys from the top, as ``("training", "lr")``.
        message: what is wrong and what would be right.
    """

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


def dotted(path: Path) -> str:
    """Write a path as ``training.lr``."""
    return ".".join(str(key) for key in path)


def refuse(problems: Iterable[Problem], describe: Callable[[Problem], str] = str) -> None:
    """Raise one error that lists all problems, if there are any.

    Raises:
        InputError: there is at least one problem.
    """
    lines = [describe(problem) for problem in problems]
    if len(lines) == 1:
        raise InputError(lines[0])
    if lines:
        raise InputError(f"{len(lines)} problems:\n" + "\n".join(f"  {line}" for line in lines))


def validate(
    model: type[Model], raw: Any, prefix: Path = (), also_known: Iterable[str] = ()
) -> tuple[Model | None, list[Problem]]:
    """Check `raw` against `model`.

    Args:
        model: the schema.
        raw: what the user wrote.
        prefix: where `raw` stands in the recipe.
        also_known: keys of the same section that another schema reads, for "did you mean".

    Returns:
        The settings or None, and the problems found.
    """
    if not isinstance(raw, Mapping):
        return None, [Problem(prefix, _not_a_section(raw))]
    try:
        return model.model_validate(dict(raw)), []
    except ValidationError as error:
        return None, [
            _problem(details, model, raw, prefix, also_known)
            for details in error.errors(include_url=False, include_context=False)
        ]


def split_options(
    options: type[Model], raw: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part a section into the core's own keys and the named part's keys (``name`` included)."""
    core = {key: value for key, value in raw.items() if key in options.model_fields}
    return core, {key: value for key, value in raw.items() if key not in core}


def check_part(
    registry: Registry,
    hook: str,
    raw: Mapping[str, Any],
    prefix: Path = (),
    also_known: Iterable[str] = (),
    name_key: str = "name",
) -> tuple[Part | None, list[Problem]]:
    """Make the part that ``raw[name_key]`` names from the other keys, or say what is wrong."""
    name = raw.get(name_key)
    if not isinstance(name, str):
        known = ", ".join(registry.names(hook))
        return None, [Problem((*prefix, name_key), f"a name is needed. Known: {known}.")]
    try:
        part_class: type[Part] = registry.load(hook, name)
    except InputError as error:
        return None, [Problem((*prefix, name_key), error.message)]
    own = {key: value for key, value in raw.items() if key != name_key}
    settings, problems = validate(part_class.Settings, own, prefix, also_known)
    if settings is None:
        return None, problems
    try:
        return part_class(settings), []
    except InputError as error:
        return None, [Problem(prefix, error.message)]


def _problem(
    details: Any, model: type[BaseModel], raw: Any, prefix: Path, also_known: Iterable[str]
) -> Problem:
    path = prefix + tuple(key for key in details["loc"] if not str(key).startswith("function-"))
    if details["type"] == "extra_forbidden":
        return Problem(path, f"unknown key. {_known_keys(details['loc'], model, also_known)}")
    if details["type"] == "missing":
        return Problem(path, "a value is needed.")
    if details["type"] == "dict_type":
        return Problem(path, _not_a_section(details["input"]))
    message = details["msg"].removeprefix("Value error, ").rstrip(".")
    return Problem(path, f"{message} (it is {details['input']!r}).")


def _not_a_section(value: object) -> str:
    return f"must be a section of 'key: value', not {value!r}."


def _known_keys(location: Path, model: type[BaseModel], also_known: Iterable[str]) -> str:
    """Suggest keys of the innermost schema that `location` leads to."""
    inner: Any = model
    for key in location[:-1]:
        field = inner.model_fields.get(key)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return "It is not known here."
        inner = annotation
    known = list(inner.model_fields)
    if len(location) == 1:
        known += list(also_known)
    return did_you_mean(str(location[-1]), known)
