"""The user's own prompts, with names in braces filled in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from pydantic import Field, field_validator, model_validator

from sentikit import InputError
from sentikit.extension import (
    ComponentSettings,
    ExamplesNeeded,
    Message,
    Needs,
    PromptInput,
    PromptStrategy,
    RetrievedExample,
)

#: Two braces mean one; a name in braces is filled in; any other brace is an error.
_PIECE = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])")
_ROW = "row."
_NAMES = (
    "text",
    "labels",
    "adviser.label",
    "adviser.probabilities",
    "examples",
    "id",
    "source",
)
_EXAMPLE_NAMES = ("text", "label")
_USER = "{text}\n\nAnswer with one of: {labels}."
_EXAMPLE = "Text: {text}\nLabel: {label}"


class Shot(ComponentSettings):
    """A labelled text in every prompt."""

    text: str
    label: str


class TemplateSettings(ComponentSettings):
    """The prompt, and the values filled into it."""

    system: str | None = Field(None, description="the system message, or null for none")
    user: str = Field(
        _USER,
        description="the user's message; {text}, {labels}, {adviser.label}, "
        "{adviser.probabilities}, {examples}, {id}, {source} and {row.COLUMN} are filled in",
    )
    descriptions: dict[str, str] = Field(
        default_factory=dict, description="description of each label; {labels} then lists both"
    )
    example: str = Field(
        _EXAMPLE, description="format of each example in {examples}, with {text} and {label}"
    )
    shots: list[Shot] = Field(
        default_factory=list, description="labelled texts that every prompt shows"
    )
    k: int = Field(4, ge=1, description="number of examples if there are no shots; see examples")
    balanced: bool = Field(False, description="k examples of each label")
    nearest: bool = Field(
        True, description="examples nearest to the text by an encoder; false: drawn with a seed"
    )

    @field_validator("system", "user")
    @classmethod
    def _known_names(cls, template: str | None) -> str | None:
        for name in _names(template or ""):
            if not (name.startswith(_ROW) and len(name) > len(_ROW)):
                _refuse_unknown(name, _NAMES)
        return template

    @field_validator("example")
    @classmethod
    def _known_example_names(cls, template: str) -> str:
        for name in _names(template):
            _refuse_unknown(name, _EXAMPLE_NAMES)
        return template

    @model_validator(mode="after")
    def _shows_the_text(self) -> TemplateSettings:
        shown = {*_names(self.user), *_names(self.system or "")}
        if not any(name == "text" or name.startswith(_ROW) for name in shown):
            raise ValueError("neither user nor system shows {text}, so the model never sees it")
        if self.shots and "examples" not in shown:
            raise ValueError("shots are given, and neither user nor system shows {examples}")
        return self


class Template(PromptStrategy):
    """A strategy with the user's prompt; values that are filled in are not read as templates."""

    Settings = TemplateSettings
    settings: TemplateSettings

    def needs(self) -> Needs:
        """Ask for the values that the prompt names."""
        settings = self.settings
        shown = {*_names(settings.user), *_names(settings.system or "")}
        examples = None
        if "examples" in shown and not settings.shots:
            examples = ExamplesNeeded(settings.k, settings.balanced, settings.nearest)
        return Needs(
            label="adviser.label" in shown,
            probabilities="adviser.probabilities" in shown,
            examples=examples,
        )

    def messages(self, given: PromptInput) -> list[Message]:
        """Return the system message, if there is one, and the user's message."""
        settings = self.settings
        user = Message("user", _filled(settings.user, lambda name: self._value(name, given)))
        if settings.system is None:
            return [user]
        system = _filled(settings.system, lambda name: self._value(name, given))
        return [Message("system", system), user]

    def _value(self, name: str, given: PromptInput) -> str:
        if name.startswith(_ROW):
            return _column(name.removeprefix(_ROW), given.columns)
        if name == "labels":
            return self._labels(given.classes)
        if name == "examples":
            return self._examples(given)
        if name == "adviser.label":
            return str(given.adviser_prediction.label) if given.adviser_prediction else ""
        if name == "adviser.probabilities":
            known = given.adviser_prediction.probabilities if given.adviser_prediction else None
            return ", ".join(f"{label} {value:.1%}" for label, value in (known or {}).items())
        return {"text": given.text, "id": given.id, "source": given.source or ""}[name]

    def _labels(self, classes: Sequence[str]) -> str:
        described = self.settings.descriptions
        for label in described:
            if label not in classes:
                raise InputError(
                    f"strategy.descriptions: {label!r} is not one of the labels "
                    f"({', '.join(classes)}).{_near(label, classes)}"
                )
        if not described:
            return ", ".join(classes)
        lines = (
            f"{label}: {described[label]}" if label in described else label for label in classes
        )
        return "\n".join(f"- {line}" for line in lines)

    def _examples(self, given: PromptInput) -> str:
        shots = [RetrievedExample(shot.text, shot.label) for shot in self.settings.shots]
        for shot in shots:
            if shot.label not in given.classes:
                raise InputError(
                    f"strategy.shots: {shot.label!r} is not one of the labels "
                    f"({', '.join(given.classes)}).{_near(shot.label, given.classes)}"
                )
        shown = shots or given.examples
        return "\n\n".join(
            _filled(self.settings.example, {"text": one.text, "label": one.label}.__getitem__)
            for one in shown
        )


def _names(template: str) -> Iterator[str]:
    """Yield the names in a template.

    Raises:
        ValueError: a brace is not paired.
    """
    for piece in _PIECE.finditer(template):
        if piece["stray"]:
            raise ValueError(
                f"the {piece['stray']!r} at character {piece.start() + 1} is unmatched; write "
                f"{piece['stray'] * 2!r} for a literal brace"
            )
        if piece["name"] is not None:
            yield piece["name"]


def _filled(template: str, value: Callable[[str], str]) -> str:
    """Fill in a template's names, in one pass."""

    def fill(piece: re.Match[str]) -> str:
        return piece["brace"][0] if piece["brace"] else value(piece["name"])

    return _PIECE.sub(fill, template)


def _refuse_unknown(name: str, known: Sequence[str]) -> None:
    if name not in known:
        listed = ", ".join(f"{{{one}}}" for one in known)
        row = ", {row.COLUMN}" if known is _NAMES else ""
        raise ValueError(f"{{{name}}} is unknown.{_near(name, known)} Known are {listed}{row}")


def _column(name: str, columns: Mapping[str, object]) -> str:
    if name not in columns:
        listed = ", ".join(columns) or "none"
        own = f" The example's own {name} is {{{name}}}." if name in _NAMES else ""
        raise InputError(
            f"The prompt shows {{row.{name}}}, and the row has no such column (it has {listed})."
            f"{own or _near(name, list(columns))} A dataset keeps the ones that dataset.columns "
            "lists."
        )
    value = columns[name]
    return "" if value is None else str(value)


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
