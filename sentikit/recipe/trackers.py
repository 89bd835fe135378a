"""Makes the trackers a recipe lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import BeforeValidator

from sentikit.checking import Path, Problem, check_part
from sentikit.registry import Registry

if TYPE_CHECKING:
    from sentikit.tracking import Tracker


def as_list(raw: Any) -> Any:
    """Let a single tracker stand for a list of one, as in ``--set trackers=wandb``."""
    return [raw] if isinstance(raw, str | Mapping) else raw


#: The list in a recipe: names, or sections with a name and settings.
Trackers = Annotated[list[Any], BeforeValidator(as_list)]


def check_trackers(
    registry: Registry, raw: Any, prefix: Path = ("trackers",)
) -> tuple[dict[str, Tracker], list[Problem]]:
    """Make the trackers of ``trackers: [wandb, {name: tensorboard, …}]``; a text is a name.

    Returns:
        The trackers by name, and all that is wrong with the list.
    """
    made: dict[str, Tracker] = {}
    problems: list[Problem] = []
    # Anything but a list is refused by the recipe's own schema.
    entries = as_list(raw)
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        path = (*prefix, number)
        section = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(section, Mapping):
            problems.append(Problem(path, f"must be a tracker's name or section, not {entry!r}."))
            continue
        tracker, found = check_part(registry, "register_trackers", section, path)
        problems += found
        name = section.get("name")
        if name in made:
            problems.append(Problem((*path, "name"), f"{name!r} is listed twice."))
        elif tracker is not None:
            made[str(name)] = cast("Tracker", tracker)
    return made, problems
