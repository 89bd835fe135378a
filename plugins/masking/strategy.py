"""The prompt strategy ``masked``, which hides personal data from another strategy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from sentikit import InputError
from sentikit.extension import (
    ComponentSettings,
    Message,
    Needs,
    PromptInput,
    PromptStrategy,
    open_component,
)

Kind = Literal["email", "url", "iban", "card", "ssn", "ip", "handle", "phone"]


class Masked(PromptStrategy):
    """A strategy that masks text, examples and other columns for the wrapped strategy."""

    class Settings(ComponentSettings):
        """The kinds to mask, and the wrapped strategy."""

        strategy: dict[str, Any] = Field(
            default_factory=lambda: {"name": "zero-shot"},
            description="the strategy to wrap: its name and own settings",
        )
        kinds: tuple[Kind, ...] = Field(
            ("email", "url", "iban", "card", "ssn", "ip", "handle", "phone"),
            min_length=1,
            description="kinds to mask: email, url, iban, card, ssn, ip, handle, phone",
        )
        regions: tuple[str, ...] = Field(
            ("US",), description="regions of telephone numbers without country code, such as US"
        )

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        try:
            from .personal_data import mask
        except ImportError as error:
            raise InputError(
                "Masking needs two packages: pip install 'sentikit[masking]'."
            ) from error
        self._mask = mask
        self._prompts: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._wrapped: PromptStrategy = open_component(
            "register_prompt_strategies", settings.strategy
        )

    def needs(self) -> Needs:
        """Return what the wrapped strategy needs."""
        return self._needs

    def messages(self, given: PromptInput) -> list[Message]:
        """Return the wrapped strategy's messages about the masked text."""
        counts: Counter[str] = Counter()

        def masked(text: str) -> str:
            return self._mask(text, self.settings.kinds, self.settings.regions, counts)

        hidden = replace(
            given,
            text=masked(given.text),
            examples=tuple(replace(one, text=masked(one.text)) for one in given.examples),
            id=masked(given.id),
            source=None if given.source is None else masked(given.source),
            columns={name: _masked_value(v, masked) for name, v in given.columns.items()},
        )
        messages = self._wrapped.messages(hidden)
        if counts:
            self._count(messages, counts)
        return messages

    def _count(self, messages: Sequence[Message], counts: Counter[str]) -> None:
        """Count a prompt once, though an estimate, a repetition or a batch makes it again."""
        prompt = hash(tuple(message.content for message in messages))
        if prompt not in self._prompts:
            self._prompts.add(prompt)
            self._counts += counts

    def counts(self) -> Mapping[str, Any]:
        """Return the number of prompts with masked data, and of masked pieces by kind."""
        pieces = {kind: self._counts[kind] for kind in self.settings.kinds if self._counts[kind]}
        return {"masked": {"prompts": len(self._prompts), "pieces": pieces}}

    def parse(self, answer: str, classes: Sequence[str]) -> str | None:
        """Read the answer as the wrapped strategy does."""
        return self._wrapped.parse(answer, classes)

    @cached_property
    def _needs(self) -> Needs:
        return self._wrapped.needs()


def _masked_value(value: Any, masked: Callable[[str], str]) -> Any:
    """Mask a column's value in its written form, since a number may be a telephone number."""
    written = str(value)
    hidden = masked(written)
    return value if hidden == written else hidden
