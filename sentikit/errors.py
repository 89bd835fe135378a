"""The one family of errors a user sees: what failed, the nearest right names, what to do next."""

from __future__ import annotations

from collections.abc import Iterable

import click

#: More names than these are no help in a message.
_MOST_LISTED = 40


class SentikitError(click.ClickException):
    """Something failed while working: a disk, a network, a worker. The command exits with 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        """Print the message on standard error, without a traceback."""
        click.echo(f"Error: {self.format_message()}", err=True)


class InputError(SentikitError):
    """What the user gave cannot be used: a file, a key, a name. The command exits with 2."""

    exit_code = 2


def quoted(value: object, most: int = 60) -> str:
    """Return a value for a message, cut where it is long."""
    shown = value if isinstance(value, str) else str(value)
    return repr(value if len(shown) <= most else shown[: most - 3] + "…")


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names most like `name`, best first."""
    import difflib

    by_folded = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.55)
    return [by_folded[match] for match in matches]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest names, or with all, if not too many, where none is."""
    names = sorted(known)
    close = nearest(name, names)
    if close:
        return "Did you mean " + " or ".join(repr(match) for match in close) + "?"
    if not names:
        return "There are none."
    if len(names) > _MOST_LISTED:
        return f"None of {len(names)} is alike."
    return "Known: " + ", ".join(names) + "."


def unknown_name(kind: str, name: str, known: Iterable[str], advice: str = "") -> InputError:
    """Build the error for a name nobody registered."""
    message = f"There is no {kind} named {name!r}. {did_you_mean(name, known)}"
    return InputError(f"{message} {advice}".rstrip())
