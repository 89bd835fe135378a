"""The recipes in ``sentikit.recipes``, including those of the published study."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_recipes(register: Any) -> None:
    """Register every YAML file of the collection under its name."""
    from importlib.resources import files

    for entry in sorted(files("sentikit.recipes").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            register(entry.name.removesuffix(".yaml"), str(entry))


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``recipes list``, ``show``, ``copy``, ``check`` and ``study``."""
    register("recipes list", f"{__name__}.commands:list_all", summary="List available recipes.")
    register(
        "recipes show",
        f"{__name__}.commands:show",
        summary="Print a recipe as written, or resolved.",
    )
    register(
        "recipes copy",
        f"{__name__}.commands:copy",
        summary="Copy a recipe to a new file, merged with all it extends.",
    )
    register(
        "recipes check",
        f"{__name__}.commands:check",
        summary="Check recipes, by default all registered ones; exit 2 if one is invalid.",
    )
    register(
        "recipes study",
        f"{__name__}.study:study",
        summary="List the study's rows with their published scores.",
    )
