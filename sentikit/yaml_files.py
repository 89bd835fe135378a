"""YAML files, read and written with the core schema of YAML 1.2, with the line of each value.

In that schema (https://yaml.org/spec/1.2.2/#103-core-schema), ``1e-5`` is a number and ``no`` a
string.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from sentikit.errors import InputError
from sentikit.files import disk_errors

_MOST_NODES = 100_000
_TAG = "tag:yaml.org,2002:"
#: Tags of scalars that ruamel.yaml converts, and of those whose value is their text.
_CONVERTED = ("int", "float", "bool", "null")
_TEXTS = ("str", "timestamp", "merge", "value")


@dataclass(frozen=True)
class LocatedYaml:
    """A document's value, and the line (from 1) at which each key's value begins."""

    value: Any
    lines: dict[tuple[str | int, ...], int]


def read_yaml_file(path: Path) -> LocatedYaml:
    return parse_yaml(read_utf8(path), str(path))


def read_utf8(path: Path) -> str:
    with disk_errors(path):
        content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8. Save the file as UTF-8.") from error


def parse_yaml(text: str, where: str) -> LocatedYaml:
    """Parse one YAML document; `where` names it in messages."""
    reader = _yaml()
    try:
        node = reader.compose(text)
        if node is None:
            return LocatedYaml(None, {})
        converter = _Converter(where, reader)
        return LocatedYaml(converter.convert(node, ()), converter.lines)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{where}{line}: not valid YAML ({error.problem}).") from error
    except YAMLError as error:
        raise InputError(f"{where}: not valid YAML ({' '.join(str(error).split())}).") from error
    except RecursionError as error:
        # Too many levels, or an anchor inside its own value.
        cyclic = "&" in text and "*" in text
        reason = "a value contains itself (&, *). Write it out" if cyclic else "nested too deeply"
        raise InputError(f"{where}: {reason}.") from error


def comment_of(text: str) -> str:
    """Return the first comment of a valid YAML text, with its ``#``, or ""."""
    end = 0
    for token in _yaml().scan(text) if "#" in text else ():
        between = text[end : token.start_mark.index]
        if "#" in between:
            return between[between.index("#") :].splitlines()[0]
        end = max(end, token.end_mark.index)
    return ""


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Return nested values as YAML, from which `parse_yaml` reads the same values."""
    stream = io.StringIO()
    _yaml().dump(dict(values), stream)
    return stream.getvalue()


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = 100
    return yaml


class _Representer(SafeRepresenter):
    """Also quotes unusual spaces, which the library would read back as plain ones."""

    def text(self, value: str) -> Node:
        style = None if value.isprintable() else '"'
        return self.represent_scalar(f"{_TAG}str", value, style=style)


_Representer.add_representer(str, _Representer.text)


class _Converter:
    """Converts composed nodes to values, records lines and refuses what recipes do not allow."""

    def __init__(self, where: str, reader: YAML) -> None:
        self.where, self._reader = where, reader
        self.lines: dict[tuple[str | int, ...], int] = {}
        self._nodes = 0

    def convert(self, node: Node, path: tuple[str | int, ...]) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise self._error(node, f"more than {_MOST_NODES} values, too many for a recipe")
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.convert(item, (*path, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._error(key_node, "a key must be a word")
            key = str(key_node.value)
            if key in result:
                raise self._error(key_node, f"the key {key!r} occurs twice in this section")
            result[key] = self.convert(value_node, (*path, key))
        return result

    def _scalar(self, node: ScalarNode) -> Any:
        tag, text = str(node.tag).removeprefix(_TAG), str(node.value)
        if tag in _CONVERTED:
            try:
                return self._reader.constructor.construct_object(node)
            except ValueError:  # more digits than Python reads
                return text
        if tag not in _TEXTS:
            raise self._error(node, f"the tag {str(node.tag)!r} is not allowed")
        return text

    def _error(self, node: Node, message: str) -> InputError:
        return InputError(f"{self.where}, line {node.start_mark.line + 1}: {message}.")
