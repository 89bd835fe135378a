"""Reads and writes YAML so that `1e-5` is a number, `no` is a word, and every value knows its line.

Scalars follow the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema), where
PyYAML follows 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sentikit.errors import InputError
from sentikit.files import disk_errors

_MOST_NODES = 100_000
#: What PyYAML's resolver calls plain scalars; any other tag was written out and asks for an object.
_PLAIN_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")
_INTEGER = re.compile(r"[-+]?[0-9]{1,4000}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True)
class LocatedYaml:
    """A document's value, and the line (from 1) on which each key's value begins."""

    value: Any
    lines: dict[tuple[str | int, ...], int]


def read_yaml_file(path: Path) -> LocatedYaml:
    """Read a YAML file.

    Raises:
        InputError: missing, unreadable, not UTF-8, or not YAML; says the line.
    """
    return parse_yaml(read_utf8(path), str(path))


def read_utf8(path: Path) -> str:
    """Read a text file.

    Raises:
        InputError: missing, unreadable or not UTF-8; says the line.
    """
    with disk_errors(path):
        content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8. Save the file as UTF-8.") from error


def parse_yaml(text: str, where: str) -> LocatedYaml:
    """Parse one YAML document; `where` names it in messages."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{where}{line}: not valid YAML ({error.problem}).") from error
    except RecursionError as error:
        raise InputError(f"{where}: the values lie too deep inside one another.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML ({' '.join(str(error).split())}).") from error
    if node is None:
        return LocatedYaml(None, {})
    converter = _Converter(where)
    try:
        return LocatedYaml(converter.convert(node, ()), converter.lines)
    except RecursionError as error:
        raise InputError(f"{where}: a value holds itself (&, *). Write it out.") from error


def comment_of(text: str) -> str:
    """Return the first comment of a valid YAML text, from its ``#`` on; "" where there is none."""
    end = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader) if "#" in text else ():
        between = text[end : token.start_mark.index]
        if "#" in between:
            return between[between.index("#") :].splitlines()[0]
        end = max(end, token.end_mark.index)
    return ""


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Write nested values as YAML that `parse_yaml` reads back as they are, in their own order."""
    text: str = yaml.dump(
        dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes also what YAML 1.1 takes for a word and 1.2 for a number, as 08, and odd spaces."""

    def text(self, value: str) -> yaml.Node:
        plain = isinstance(_plain_value(value), str) and value.isprintable()
        style = None if plain else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _Dumper.text)


def _plain_value(text: str) -> Any:
    """Return what a scalar without quotes means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Converter:
    """Turns composed nodes into values, noting lines and refusing what a recipe must not hold."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.lines: dict[tuple[str | int, ...], int] = {}
        self._nodes = 0

    def convert(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise self._error(node, f"more than {_MOST_NODES} values; this is no recipe")
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(item, (*path, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "a key must be a word")
            key = str(key_node.value)
            if key in result:
                raise self._error(key_node, f"the key {key!r} stands twice in this section")
            result[key] = self.convert(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _PLAIN_TAGS:
            raise self._error(node, f"the tag {node.tag!r} is not allowed")
        text = str(node.value)
        return text if node.style is not None else _plain_value(text)

    def _error(self, node: yaml.Node, message: str) -> InputError:
        return InputError(f"{self.where}, line {node.start_mark.line + 1}: {message}.")
