"""Reads sentiment trees: one s-expression a line, as ``(3 (2 It) (4 (3 's) (4 fine)))``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sentikit import InputError, read_rows

# Every character belongs to one token. Only the ASCII blank separates: some leaves of the treebank
# hold a no-break space ("8\xa01\\/2").
_TOKEN = re.compile(r"\((?P<label>[^ ()]*) |(?P<leaf>[^ ()]+)|(?P<end>\))|(?P<bare>\()| +")
_LABELS = {str(label): label for label in range(5)}


class Phrase(NamedTuple):
    """A node of a tree.

    Attributes:
        text: its words joined by a blank, escapes such as ``-LRB-`` kept.
        label: 0 (very negative) to 4 (very positive).
    """

    text: str
    label: int


@dataclass(frozen=True)
class Tree:
    """A sentence and its parts.

    Attributes:
        words: its leaves, in order.
        nodes: label, first word and one past the last word of each node, parts before wholes.
    """

    words: tuple[str, ...]
    nodes: tuple[tuple[int, int, int], ...]

    def sentence(self) -> Phrase:
        """Return the root."""
        return self._phrase(*self.nodes[-1])

    def phrases(self) -> Iterator[Phrase]:
        """Yield every node below the root."""
        return (self._phrase(*node) for node in self.nodes[:-1])

    def _phrase(self, label: int, start: int, stop: int) -> Phrase:
        return Phrase(" ".join(self.words[start:stop]), label)


class MalformedTreeError(ValueError):
    """Says what is wrong with a line."""


def read_trees(path: Path) -> Iterator[tuple[int, Tree]]:
    """Yield line number and tree of each line of a file that is not blank.

    Raises:
        InputError: the file is missing or empty, is not UTF-8 or has a malformed line; says which.
    """
    with read_rows(path, "text") as rows:
        for line, (text,) in rows.cells("text"):
            try:
                yield line, parse((text or "").strip(" "))
            except MalformedTreeError as error:
                raise InputError(
                    f"{rows.at(line)}: {error}. A tree is written as (3 (2 It) (4 works))."
                ) from error


def parse(line: str) -> Tree:
    """Read one tree.

    Raises:
        MalformedTreeError: the line is not one well-formed tree.
    """
    words: list[str] = []
    nodes: list[tuple[int, int, int]] = []
    unfinished: list[tuple[int, int]] = []
    for token in _TOKEN.finditer(line):
        kind, column = token.lastgroup, token.start() + 1
        if not unfinished and (nodes or kind != "label"):
            fault = "text after the tree's end" if nodes else "a tree begins with '(' and a label"
            raise MalformedTreeError(f"{fault}, at column {column}")
        if kind == "label":
            unfinished.append((_label(token["label"], column), len(words)))
        elif kind == "end":
            nodes.append((*_finished(unfinished, len(words), column), len(words)))
        elif kind == "leaf":
            words.append(token["leaf"])
        elif kind == "bare":
            raise MalformedTreeError(f"a '(' without a label and a blank at column {column}")
    if unfinished:
        raise MalformedTreeError(f"{len(unfinished)} ')' missing at the end")
    return Tree(tuple(words), tuple(nodes))


def _label(label: str, column: int) -> int:
    if label not in _LABELS:
        raise MalformedTreeError(f"the label {label!r} at column {column + 1} is not one of 0 to 4")
    return _LABELS[label]


def _finished(unfinished: list[tuple[int, int]], words: int, column: int) -> tuple[int, int]:
    label, start = unfinished.pop()
    if start == words:
        raise MalformedTreeError(f"a node without words ends at column {column}")
    return label, start
