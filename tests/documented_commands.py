"""The commands that the documentation shows, checked against the real ones."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from sentikit.cli import sentikit
from sentikit.components import Problem
from sentikit.datasets.opening import check_dataset
from sentikit.recipe.resolving import parse_overrides, resolve_recipe
from sentikit.recipe_checks import recipe_problems
from sentikit.registry import default_registry

#: Language, title and body of a block; the commands of one titled "mistakes" are wrong.
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELL = {"sh", "bash", "console"}
_SEPARATORS = "();<>|&\n"
#: Programs that start another one.
_STARTERS = {"srun", "torchrun", "deepspeed", "nohup", "time", "nice", "env"}
#: Where a command's parameter holds a registered name: by command and parameter, or by parameter.
_NAMES = {
    "recipe": "register_recipes",
    "recipes show name": "register_recipes",
    "recipes copy name": "register_recipes",
    "recipes check names": "register_recipes",
    "dataset": "register_datasets",
    "datasets show name": "register_datasets",
    "format_name": "register_formats",
}


@dataclass(frozen=True)
class DocumentedCommand:
    """A command as a page shows it.

    Attributes:
        page: the page's path.
        words: the words after ``sentikit``.
        mentioned: whether it is part of a sentence, where arguments may be omitted.
    """

    page: str
    words: tuple[str, ...]
    mentioned: bool = False

    def __str__(self) -> str:
        return f"{self.page}: sentikit {shlex.join(self.words)}"


def commands_of(page: Path, root: Path) -> list[DocumentedCommand]:
    """Return the commands in shell blocks, in examples of other blocks, and within sentences."""
    text, name = page.read_text(encoding="utf-8"), str(page.relative_to(root))
    found = []
    for language, title, body in _FENCE.findall(text):
        if language in _SHELL and "mistakes" not in title:
            found += [DocumentedCommand(name, words) for words in _sentikit_commands(body)]
        elif not language:
            examples = re.findall(r"^\s*(?:Examples?: )?((?:\S.* \| )?sentikit .*)$", body, re.M)
            for line in examples:
                found += [DocumentedCommand(name, words) for words in _sentikit_commands(line)]
    for mention in re.findall(r"`(sentikit [^`]+)`", _FENCE.sub("", text)):
        # Capitals are placeholders.
        if "…" not in mention and not re.search(r"\b[A-Z]{3,}\b", mention):
            words = tuple(shlex.split(mention)[1:])
            found.append(DocumentedCommand(name, words, mentioned=True))
    return found


def _sentikit_commands(script: str) -> Iterator[tuple[str, ...]]:
    without_comments = re.sub(r"(?m)(^|\s)#\s.*$", "", script.replace("\\\n", " "))
    lexer = shlex.shlex(without_comments, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    for separates, words in groupby(lexer, key=lambda word: set(word) <= set(_SEPARATORS)):
        if not separates:
            yield from _arguments(list(words))


def _arguments(words: list[str]) -> Iterator[tuple[str, ...]]:
    if words and words[0].startswith("_SENTIKIT_COMPLETE="):
        return  # called by the shell's completion, without arguments
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0], re.DOTALL):
        words = words[1:]
    for number, word in enumerate(words):
        called = number == 0 or words[number - 1] == "-m" or words[0] in _STARTERS
        if called and word.rpartition("/")[2] == "sentikit":
            yield tuple(words[number + 1 :])
            return


def problems_of(command: DocumentedCommand, root: Path, own: Sequence[str] = ()) -> list[str]:
    """Return the mistakes in a command: an unknown command, option, choice, name or setting.

    Args:
        command: the command.
        root: the checkout; files the command names are looked for there.
        own: prefixes of names, of commands too, that the page's reader creates.
    """
    try:
        path, context = _parsed(list(command.words))
    except click.exceptions.Exit:
        return []  # --help, --version
    except click.MissingParameter as error:
        return [] if command.mentioned else [error.format_message()]
    except click.ClickException as error:
        made = command.words[:1] and command.words[0].startswith(tuple(own) or ("\0",))
        return [] if made else [error.format_message()]
    names = list(_unknown_names(path, context.params, own))
    return names or [str(problem) for problem in _setting_problems(path, context.params, root, own)]


def _parsed(words: list[str]) -> tuple[str, click.Context]:
    """Let click parse the words as it would, without running anything."""
    context = sentikit.make_context("sentikit", words)
    path: list[str] = []
    while isinstance(context.command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = context.command.resolve_command(context, rest)
        assert name is not None
        assert found is not None
        path.append(name)
        context = found.make_context(name, rest, parent=context)
    return " ".join(path), context


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _unknown_names(path: str, values: dict[str, Any], own: Sequence[str]) -> Iterator[str]:
    registry = default_registry()
    for parameter, value in values.items():
        hook = _NAMES.get(f"{path} {parameter}", _NAMES.get(parameter))
        given = [value] if isinstance(value, str) else value or ()
        for name in given if hook else ():
            if _is_file(name) or name.startswith(tuple(own) or ("\0",)):
                continue
            try:
                registry.find(hook, name)
            except click.ClickException as error:
                yield error.format_message()


def _setting_problems(
    path: str, values: dict[str, Any], root: Path, own: Sequence[str]
) -> list[Problem]:
    """Check ``--set`` against the recipe, or the dataset, that it changes."""
    registry, settings = default_registry(), tuple(values.get("settings") or ())
    changes = parse_overrides(settings)
    dataset = values.get("name") if path == "datasets show" else values.get("dataset")
    if dataset and not dataset.startswith(tuple(own) or ("\0",)):
        folder = {"path": values["path"]} if values.get("path") else {}
        section = {"name": dataset, **folder, **changes}
        return check_dataset(registry, section, ("dataset",))[1]
    recipe = values.get("recipe") or next(iter(values.get("names") or ()), None)
    if recipe and _is_file(recipe):
        recipe = str(root / recipe) if (root / recipe).is_file() else None
    if not recipe or recipe.startswith(tuple(own) or ("\0",)):
        return []
    return recipe_problems(resolve_recipe(recipe, settings, registry), registry)
