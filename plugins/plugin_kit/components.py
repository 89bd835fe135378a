"""Every component: its class, and the settings it is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from sentikit.extension import Part, PartSettings, core_keys, validate

AnyPart = TypeVar("AnyPart", bound=Part)


def require(fulfilled: object, message: str) -> None:
    """Raise unless something holds; unlike ``assert``, also under ``python -O``.

    Raises:
        AssertionError: it does not.
    """
    if not fulfilled:
        raise AssertionError(message)


def check_part(part_class: type[AnyPart], settings: Mapping[str, Any]) -> AnyPart:
    """Check a part's settings and make the part from them.

    Args:
        part_class: the class a plugin registers.
        settings: as a recipe's section gives them, without the part's name.

    Returns:
        The part.

    Raises:
        AssertionError: the class or its settings break a rule.
    """
    check_settings_class(part_class)
    name = part_class.__name__
    made, problems = validate(part_class.Settings, settings)
    require(not problems, f"{name} refuses the settings: " + "; ".join(map(str, problems)))
    assert made is not None
    _check_written_settings(name, made)
    part = part_class(made)
    require(part.settings == made, f"{name}.settings must be the settings it was made from.")
    return part


def check_settings_class(part_class: type[Part]) -> None:
    """Check what can be checked of a part without settings.

    Raises:
        AssertionError: the class or its settings' class breaks a rule.
    """
    name = getattr(part_class, "__name__", repr(part_class))
    require(
        isinstance(part_class, type) and issubclass(part_class, Part),
        f"{name} must be a class that derives from one of sentikit's interfaces.",
    )
    unwritten = sorted(getattr(part_class, "__abstractmethods__", ()))
    require(not unwritten, f"{name} leaves out {', '.join(unwritten)}.")
    schema = part_class.Settings
    require(
        isinstance(schema, type) and issubclass(schema, PartSettings),
        f"{name}.Settings must be a class that derives from sentikit.extension.PartSettings.",
    )
    require(
        schema.model_config.get("extra") == "forbid", f"{name}.Settings must refuse other keys."
    )
    require(schema.model_config.get("frozen"), f"{name}.Settings must stay frozen.")
    taken = sorted(set(schema.model_fields) & core_keys(part_class))
    require(
        not taken,
        f"{name}.Settings uses {', '.join(taken)}, which the core reads from the same section. "
        "Choose another name.",
    )
    _check_defaults(name, schema)


def _check_defaults(name: str, schema: type[PartSettings]) -> None:
    """Pydantic takes a default as it is; a recipe that writes it down would be refused."""
    try:
        strict = type("Settings", (schema,), {"model_config": {"validate_default": True}})
        _, problems = validate(strict, {})
        wrong = [p for p in problems if p.path and "a value is needed" not in p.message]
        made = None if problems else schema()
    except Exception as error:
        raise AssertionError(f"{name}.Settings cannot be built: {error}") from error
    require(
        not wrong,
        f"{name}.Settings refuses its own default of " + "; ".join(map(str, wrong)),
    )
    if made is not None:
        _check_written_settings(name, made)


def needs_settings(part_class: type[Part]) -> bool:
    """Return whether the part cannot be made from its defaults alone."""
    return bool(validate(part_class.Settings, {})[1])


def _check_written_settings(name: str, made: PartSettings) -> None:
    """A run writes its recipe down, and the recipe written must mean the same."""
    try:
        text = json.dumps(made.model_dump(mode="json"), allow_nan=False)
        again = type(made).model_validate(json.loads(text))
    except Exception as error:
        raise AssertionError(
            f"{name}.Settings cannot be written to YAML and read again: {error}"
        ) from error
    require(
        again == made, f"{name}.Settings change when written to YAML and read: {made}, {again}."
    )
