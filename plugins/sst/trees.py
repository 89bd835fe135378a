"""Sentiment trees: one s-expression per line, such as ``(3 (2 It) (4 (3 's) (4 fine)))``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sentikit import InputError
from sentikit.extension import read_rows

# Every character belongs to one token; a whole leaf is one. Only ASCII spaces separate: some leaves
# of the treebank contain a no-break space ("8\xa01\\/2").
_TOKEN = re.compile(r"\([0-4] [^ ()]+\) *|\([^ ()]* |[^ ()]+|\) *|\(| +")
_OPENINGS = {f"({label} ": label for label in range(5)}


class Phrase(NamedTuple):
    """A node of a tree.

    Attributes:
        text: its words joined by spaces, with escapes such as ``-LRB-``.
        label: 0 (very negative) to 4 (very positive).
    """

    text: str
    label: int


@dataclass(frozen=True)
class Tree:
    """The tree of a sentence.

    Attributes:
        words: its leaves, in order.
        nodes: label, first word and one past the last word of each node, children first.
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
    """A line is not a well-formed tree."""


def read_trees(path: Path) -> Iterator[tuple[int, Tree]]:
    """Yield line number and tree of each line of a file that is not blank.

    Raises:
        InputError: the file is missing or empty, is not UTF-8 or has a malformed line.
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
    """Parse one tree.

    Raises:
        MalformedTreeError: the line is not one well-formed tree.
    """
    pieces = _TOKEN.findall(line)
    words: list[str] = []
    nodes: list[tuple[int, int, int]] = []
    unfinished: list[tuple[int, int]] = []
    for position, piece in enumerate(pieces):
        if nodes and not unfinished:
            raise _malformed(pieces, position, finished=True)
        if piece in _OPENINGS:
            unfinished.append((_OPENINGS[piece], len(words)))
        elif piece[0] == "(" and ")" in piece:
            nodes.append((int(piece[1]), len(words), len(words) + 1))
            words.append(piece[3 : piece.index(")")])
        elif piece[0] == "(" or not unfinished:
            raise _malformed(pieces, position)
        elif piece[0] == ")":
            label, start = unfinished.pop()
            if start == len(words):
                raise _malformed(pieces, position)
            nodes.append((label, start, len(words)))
        else:
            words += filter(None, piece.split(" "))
    if unfinished:
        raise MalformedTreeError(f"{len(unfinished)} ')' missing at the end")
    return Tree(tuple(words), tuple(nodes))


def _malformed(pieces: list[str], position: int, finished: bool = False) -> MalformedTreeError:
    """Return the error for a token."""
    piece = pieces[position].strip()
    if finished:
        fault = "text after the tree's end"
    elif position and piece == ")":
        fault = "a node without words"
    else:
        fault = f"{piece!r} where '(' with a label from 0 to 4 is needed"
    column = sum(map(len, pieces[:position])) + 1
    return MalformedTreeError(f"{fault}, at column {column}")
