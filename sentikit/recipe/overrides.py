"""``--set training.lr=1e-5``: one value of a recipe changed on the command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sentikit.errors import InputError
from sentikit.yaml_reading import comment_of, parse_yaml

Path = tuple[str | int, ...]

#: The keys by which a section names its part.
PART_KEYS = ("name", "backend", "provider")


def parse_overrides(
    assignments: Sequence[str], example: str = "training.lr=1e-5"
) -> dict[str, Any]:
    """Turn ``KEY.SUBKEY=VALUE`` texts into a nested mapping; later ones win.

    The text is split at the first ``=``; the value is read as YAML (numbers, lists, mappings) and
    coerced by the recipe's schema afterwards. A part's name and its settings may come in any order:
    ``training.schedule=cosine`` and ``training.schedule.eta_min=1e-7``.

    Args:
        assignments: what the user wrote.
        example: such a text, for messages.

    Raises:
        InputError: no ``=``, an empty key, a value that is not YAML or has a comment, or two that
            exclude another.
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        keys = key.strip().split(".")
        if not equals or not all(keys):
            raise InputError(f"--set {assignment!r} is not of the form KEY=VALUE, as {example}.")
        value = parse_yaml(text, f"--set {key.strip()}").value
        _refuse_comment(key.strip(), text)
        _assign(result, keys, value)
    return result


def parse_dataset_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Turn texts about a dataset section into one; keys come with or without ``dataset.``.

    Raises:
        InputError: as for `parse_overrides`; or a whole section at once.
    """
    own = [assignment.strip().removeprefix("dataset.") for assignment in assignments]
    section = parse_overrides(own, "labels=five")
    if "dataset" in section:
        raise InputError("--set dataset=… gives a whole section. Set its keys, as labels=five.")
    return section


def _refuse_comment(key: str, text: str) -> None:
    """Refuse what YAML would leave out silently: ``label=# Stars`` is a column's name."""
    comment = comment_of(text)
    if not comment:
        return
    advice = "Leave it out, or quote the words it belongs to."
    if text.strip()[0] not in "{[\"'":
        quoted = json.dumps(text.strip(), ensure_ascii=False)
        advice = f"Quote the value: --set {shlex.quote(f'{key}={quoted}')}"
    raise InputError(f"--set {key}: YAML takes {comment!r} for a comment. {advice}")


def _assign(target: dict[str, Any], keys: list[str], value: Any) -> None:
    *sections, last = keys
    for number, section in enumerate(sections, 1):
        inner = target.setdefault(section, {})
        if isinstance(inner, str):
            # The short form of a part: its name, to which a setting is added now.
            inner = target[section] = {"name": inner}
        if not isinstance(inner, dict):
            outer = ".".join(sections[:number])
            raise InputError(
                f"--set {'.'.join(keys)}: --set {outer}={inner} says that {outer} is no section. "
                "Leave one of them out."
            )
        target = inner
    settings = target.get(last)
    shortened = isinstance(value, str) and isinstance(settings, dict)
    target[last] = {**settings, "name": value} if shortened and settings else value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` onto `base`, section by section.

    A section that changes its part's ``name`` (``backend``, ``provider``) starts afresh: the keys
    it would inherit belong to another part.
    """
    if any(key in over and over[key] != base.get(key) for key in PART_KEYS):
        return dict(over)
    result = dict(base)
    for key, value in over.items():
        inherited = result.get(key)
        if isinstance(value, Mapping) and isinstance(inherited, Mapping):
            result[key] = merge(inherited, value)
        else:
            result[key] = value
    return result


def paths_of(value: Any, prefix: Path = ()) -> list[Path]:
    """Return the path of every section and leaf of a nested mapping."""
    if not isinstance(value, Mapping):
        return [prefix]
    inner = [path for key, item in value.items() for path in paths_of(item, (*prefix, str(key)))]
    return [prefix, *inner] if prefix else inner
