"""The errors that users see, and helpers for their messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

#: Escape sequences of terminals, and all control characters except line feed and tab.
_CONTROL = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|\x1b.?|\r(?=\n)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
#: A message lists at most this many names.
_MOST_LISTED = 40


class SentikitError(click.ClickException):
    """A failure while working, such as of the disk or network. The command exits with 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        """Print the message on standard error, without a traceback."""
        click.echo(f"Error: {printable(self.format_message())}", err=True)


class InputError(SentikitError):
    """Invalid input, such as a file, a key or a name. The command exits with 2."""

    exit_code = 2


def printable(text: str) -> str:
    """Return text without terminal escapes, control characters and text reordering."""
    return _CONTROL.sub("", text)


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, ending in a full stop."""
    text = printable(" ".join(str(error).split())) or "no message"
    return text if text.endswith((".", "?", "!")) else f"{text}."


def quoted(value: object, most: int = 60) -> str:
    """Return a value in quotes for a message, truncated if it is long."""
    shown = value if isinstance(value, str) else str(value)
    return repr(value if len(shown) <= most else shown[: most - 3] + "…")


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names most similar to `name`, best first."""
    import difflib

    by_folded = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.55)
    return [by_folded[match] for match in matches]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest names, or else with all names if there are few."""
    names = sorted(known)
    close = nearest(name, names)
    if close:
        return "Did you mean " + " or ".join(repr(match) for match in close) + "?"
    if not names:
        return "There are none."
    if len(names) > _MOST_LISTED:
        return f"No similar name among {len(names)}."
    return "Known: " + ", ".join(names) + "."


def unknown_name(kind: str, name: str, known: Iterable[str], advice: str = "") -> InputError:
    """Return the error for an unregistered name."""
    message = f"There is no {kind} named {name!r}. {did_you_mean(name, known)}"
    return InputError(f"{message} {advice}".rstrip())
