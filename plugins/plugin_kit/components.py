"""Conformance checks of every component: its class and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from sentikit.extension import Component, ComponentSettings, core_keys, validate

AnyComponent = TypeVar("AnyComponent", bound=Component)


def require(fulfilled: object, message: str) -> None:
    """Raise an error unless a condition holds, also under ``python -O``.

    Raises:
        AssertionError: the condition does not hold.
    """
    if not fulfilled:
        raise AssertionError(message)


def check_component(
    component_class: type[AnyComponent], settings: Mapping[str, Any]
) -> AnyComponent:
    """Check a component's settings, and create it from them.

    Args:
        component_class: the class a plugin registers.
        settings: as a recipe's section gives them, without its name.

    Returns:
        The component.

    Raises:
        AssertionError: the class or its settings break a rule.
    """
    check_settings_class(component_class)
    name = component_class.__name__
    made, problems = validate(component_class.Settings, settings)
    require(not problems, f"{name} refuses the settings: " + "; ".join(map(str, problems)))
    assert made is not None
    _check_written_settings(name, made)
    component = component_class(made)
    require(component.settings == made, f"{name}.settings must be the settings it was made from.")
    return component


def check_settings_class(component_class: type[Component]) -> None:
    """Check a component as far as possible without settings.

    Raises:
        AssertionError: the class or its settings' class breaks a rule.
    """
    name = getattr(component_class, "__name__", repr(component_class))
    require(
        isinstance(component_class, type) and issubclass(component_class, Component),
        f"{name} must be a class that derives from one of sentikit's interfaces.",
    )
    unwritten = sorted(getattr(component_class, "__abstractmethods__", ()))
    require(not unwritten, f"{name} leaves out {', '.join(unwritten)}.")
    schema = component_class.Settings
    require(
        isinstance(schema, type) and issubclass(schema, ComponentSettings),
        f"{name}.Settings must be a class that derives from sentikit.extension.ComponentSettings.",
    )
    require(
        schema.model_config.get("extra") == "forbid", f"{name}.Settings must refuse other keys."
    )
    require(schema.model_config.get("frozen"), f"{name}.Settings must stay frozen.")
    taken = sorted(set(schema.model_fields) & core_keys(component_class))
    require(
        not taken,
        f"{name}.Settings uses {', '.join(taken)}, which the core reads from the same section. "
        "Choose another name.",
    )
    _check_defaults(name, schema)


def _check_defaults(name: str, schema: type[ComponentSettings]) -> None:
    """Check the defaults, which pydantic does not validate."""
    try:
        strict = type("Settings", (schema,), {"model_config": {"validate_default": True}})
        _, problems = validate(strict, {})
        required = {key for key, field in schema.model_fields.items() if field.is_required()}
        wrong = [p for p in problems if p.path and p.path[0] not in required]
        made = None if problems else schema()
    except Exception as error:
        raise AssertionError(f"{name}.Settings cannot be built: {error}") from error
    require(
        not wrong,
        f"{name}.Settings refuses its own default of " + "; ".join(map(str, wrong)),
    )
    if made is not None:
        _check_written_settings(name, made)


def needs_settings(component_class: type[Component]) -> bool:
    """Return whether the component cannot be created from defaults."""
    return bool(validate(component_class.Settings, {})[1])


def _check_written_settings(name: str, made: ComponentSettings) -> None:
    """Check that the settings survive being written to YAML and read again."""
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
