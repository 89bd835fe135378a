"""Components: what plugins register, and the check of the settings that make one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from sentikit.errors import InputError, did_you_mean
from sentikit.registry import Registry, default_registry

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
MadeComponent = TypeVar("MadeComponent", bound="Component")

#: Counts, sizes and amounts must stay below this.
_TOO_LARGE = 10**15
#: A component as a recipe names it: its registered name, and its settings.
Section = dict[str, Any]


def as_section(raw: Any) -> Any:
    """Let a name stand for a section of that name, as in ``--set training.optimizer=adam``."""
    return {"name": raw} if isinstance(raw, str) else raw


class ComponentSettings(BaseModel):
    """Base of a component's settings: frozen, unknown keys refused, numbers accepted as text.

    A recipe's section gives a component's registered ``name`` beside these keys.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )


class Component:
    """Base of whatever a plugin registers: it is made from its own settings.

    Components are made while a recipe is checked: ``__init__`` loads nothing, but may raise an
    ``InputError`` for a package that is missing. A subclass names its settings class::

        class Reviews(sentikit.extension.DatasetLoader):
            class Settings(sentikit.extension.ComponentSettings):
                path: str
    """

    Settings: ClassVar[type[ComponentSettings]] = ComponentSettings

    def __init__(self, settings: ComponentSettings) -> None:
        self.settings = settings


#: The types of pydantic's errors for a value that should be a section.
_SECTION_TYPES = ("dict_type", "model_type", "model_attributes_type")


@dataclass(frozen=True)
class Problem:
    """One problem with the setting at `path`."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


def dotted(path: Path) -> str:
    """Write a path as ``training.lr``."""
    return ".".join(str(key) for key in path)


def refuse(problems: Iterable[Problem], describe: Callable[[Problem], str] = str) -> None:
    """Raise one error that lists all problems, if there are any."""
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
        prefix: the path of `raw` in the recipe.
        also_known: keys of the same section that another schema reads, for "did you mean".

    Returns:
        The settings or None, and the problems found.
    """
    if not isinstance(raw, Mapping):
        return None, [Problem(prefix, _not_a_section(raw))]
    odd = list(_odd_numbers(model, raw, prefix))
    try:
        made = model.model_validate(dict(raw))
    except ValidationError as error:
        found = error.errors(include_url=False)
        places = {problem.path for problem in odd}
        more = _problems(found, model, raw, prefix, also_known)
        return None, odd + [problem for problem in more if problem.path not in places]
    return (None, odd) if odd else (made, [])


def _odd_numbers(schema: Any, raw: Mapping[Any, Any], prefix: Path) -> Iterator[Problem]:
    """Yield problems that pydantic accepts: true as a number, and numbers beyond 64 bits."""
    for key, value in raw.items():
        wanted = _inside(schema, key)
        if isinstance(value, Mapping):
            alternatives = [wanted, *get_args(wanted)]
            named = [one for one in alternatives if value.get("name") in _own_names(one)]
            yield from _odd_numbers(named[0] if named else wanted, value, (*prefix, key))
        elif isinstance(value, bool):
            kinds = {wanted, *get_args(wanted)}
            if kinds & {int, float} and bool not in kinds:
                yield Problem((*prefix, key), f"Input should be a number{_in_yaml(value)}.")
        elif isinstance(value, int) and abs(value) >= _TOO_LARGE and wanted in (int, float):
            yield Problem((*prefix, key), f"Input should be less than {_TOO_LARGE:,}.")


def split_options(
    options: type[Model], raw: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a section into the core's own keys and the component's, its ``name`` included."""
    core = {key: value for key, value in raw.items() if key in options.model_fields}
    return core, {key: value for key, value in raw.items() if key not in core}


def check_component(
    registry: Registry,
    hook: str,
    raw: Mapping[str, Any],
    prefix: Path = (),
    also_known: Iterable[str] = (),
    name_key: str = "name",
) -> tuple[Component | None, list[Problem]]:
    """Make the component that ``raw[name_key]`` names from the other keys, or return problems."""
    name = raw.get(name_key)
    if not isinstance(name, str):
        known = ", ".join(registry.names(hook))
        return None, [Problem((*prefix, name_key), f"a name is needed. Known: {known}.")]
    try:
        component_class: type[Component] = registry.load(hook, name)
    except InputError as error:
        return None, [Problem((*prefix, name_key), error.message)]
    own = {key: value for key, value in raw.items() if key != name_key}
    return make_component(component_class, own, prefix, also_known)


def make_component(
    component_class: type[MadeComponent],
    raw: Mapping[str, Any],
    prefix: Path,
    also_known: Iterable[str],
) -> tuple[MadeComponent | None, list[Problem]]:
    """Make a component from its own settings, or return the problems with them."""
    settings, problems = validate(component_class.Settings, raw, prefix, also_known)
    if settings is None:
        return None, problems
    try:
        return component_class(settings), []
    except InputError as error:
        return None, [Problem(prefix, error.message)]


def open_component(hook: str, section: Mapping[str, Any]) -> Any:
    """Make the component that a section names, for a component that holds another.

    Args:
        hook: the component's hook, as ``register_prompt_strategies``.
        section: ``name`` and the component's own settings.

    Raises:
        InputError: there is no such component, or a setting is wrong; all problems at once.
    """
    component, problems = check_component(default_registry(), hook, section)
    refuse(problems, lambda problem: f"{section.get('name')}: {problem}")
    return component


def check_section(
    registry: Registry,
    hook: str,
    options: type[Model],
    raw: Mapping[str, Any],
    path: Path,
    interface: type[MadeComponent],
    name_key: str = "name",
) -> tuple[MadeComponent | None, Model | None, list[Problem]]:
    """Check a section that holds keys of the core beside those of the component it names."""
    core, own = split_options(options, raw)
    settings, problems = validate(options, core, path)
    known = [*options.model_fields, *([] if name_key == "name" else [name_key])]
    component, more = check_component(registry, hook, own, path, known, name_key)
    problems += more
    if component is None or isinstance(component, interface):
        return component, settings, problems
    wrong = f"{raw[name_key]!r} is not a subclass of {interface.__name__}."
    return None, settings, [*problems, Problem((*path, name_key), wrong)]


def _problems(
    found: Sequence[Any], model: type[BaseModel], raw: Any, prefix: Path, also_known: Iterable[str]
) -> list[Problem]:
    """Return the problems, one per place, even if a value fails several alternatives."""
    by_place: dict[Path, list[Any]] = {}
    for details in found:
        by_place.setdefault(_place(details, raw), []).append(details)
    problems = []
    for place, own in by_place.items():
        tagged = len(own[0]["loc"]) > len(place)
        # The alternative that the user's value fits best has its error further inside.
        if tagged and any(o[: len(place)] == place and o != place for o in by_place):
            continue
        path = prefix + place
        if len(own) > 1:
            problems.append(Problem(path, _none_of_these(own)))
        else:
            problems.append(_problem(own[0], path, model, raw, also_known))
    return problems


def _place(details: Any, raw: Any) -> Path:
    """Return an error's path in the user's keys, without the names of alternatives."""
    place: list[str | int] = []
    value = raw
    for number, key in enumerate(details["loc"]):
        last = number == len(details["loc"]) - 1
        if _holds(value, key):
            value = value[key]
        elif number and not (last and details["type"] == "missing"):
            continue
        else:
            value = None
        place.append(key)
    return tuple(place)


def _holds(value: Any, key: str | int) -> bool:
    if isinstance(value, Mapping):
        return key in value
    return isinstance(value, list | tuple) and isinstance(key, int) and key < len(value)


def _none_of_these(alternatives: Sequence[Any]) -> str:
    wanted = dict.fromkeys(
        "a section of 'key: value'"
        if details["type"] in _SECTION_TYPES
        else details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        for details in alternatives
    )
    return f"Input should be {', or '.join(wanted)}{_in_yaml(alternatives[0]['input'])}."


def _problem(
    details: Any, path: Path, model: type[BaseModel], raw: Any, also_known: Iterable[str]
) -> Problem:
    kind, given = details["type"], details["input"]
    if kind == "extra_forbidden":
        return Problem(path, f"unknown key. {_known_keys(details['loc'], model, also_known)}")
    if kind == "missing":
        return Problem(path, f"a value is missing{_meaning(details['loc'], model)}.")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _unnamed(path, given, _names(details["loc"], model))
    if kind in _SECTION_TYPES:
        return Problem(path, _not_a_section(given))
    if kind == "too_short":
        least = details["ctx"]["min_length"]
        return Problem(path, f"needs at least {least} values, but has {len(given)}.")
    message = details["msg"].removeprefix("Value error, ").rstrip(".")
    return Problem(path, f"{message}{_in_yaml(given)}.")


def _in_yaml(given: object) -> str:
    """Return the wrong value in YAML for a message; "" for a whole section."""
    return "" if isinstance(given, Mapping) else f" (it is {yaml_spelling(given)})"


def yaml_spelling(value: object) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)


def _meaning(location: Path, model: type[BaseModel]) -> str:
    """Return the description of a missing key, if its schema has one."""
    fields = getattr(_schema_at(model, location[:-1]), "model_fields", {})
    field = fields.get(str(location[-1]))
    return f": {field.description}" if field and field.description else ""


def _unnamed(path: Path, given: Any, names: Sequence[str]) -> Problem:
    """Return the problem of a section without a name, or with an unknown one."""
    name = given.get("name") if isinstance(given, Mapping) else None
    if name is None:
        return Problem(path, f"needs a name: {', '.join(names)}.")
    return Problem((*path, "name"), f"unknown name {name!r}. {did_you_mean(str(name), names)}")


def _names(location: Path, model: type[BaseModel]) -> list[str]:
    """Return the names of the alternatives that `location` leads to."""
    alternatives = get_args(_schema_at(model, location))
    return [name for one in alternatives for name in _own_names(one)]


def _schema_at(model: Any, location: Path) -> Any:
    return functools.reduce(_inside, location, model)


def _inside(outer: Any, key: str | int) -> Any:
    """Return the type of a schema's key; of a union, the alternative with that name."""
    if isinstance(outer, type) and issubclass(outer, BaseModel):
        field = outer.model_fields.get(str(key))
        return field.annotation if field else None
    alternatives = get_args(outer)
    return next(
        (o for o in alternatives if key in (*_own_names(o), getattr(o, "__name__", ""))), None
    )


def _own_names(schema: Any) -> tuple[str, ...]:
    field = getattr(schema, "model_fields", {}).get("name")
    return get_args(field.annotation) if field else ()


def _not_a_section(value: object) -> str:
    return f"must be a section of 'key: value', not {yaml_spelling(value)}."


def _known_keys(location: Path, model: type[BaseModel], also_known: Iterable[str]) -> str:
    """Suggest keys of the innermost schema that `location` leads to."""
    inner = _schema_at(model, location[:-1])
    if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
        return "There are no keys here."
    known = list(inner.model_fields)
    if len(location) == 1:
        known += list(also_known)
    return did_you_mean(str(location[-1]), known)
