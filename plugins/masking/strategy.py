"""The prompt strategy ``masked``, which hides personal data from another strategy."""

from __future__ import annotations

from collections.abc import Sequence
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
        self._wrapped: PromptStrategy = open_component(
            "register_prompt_strategies", settings.strategy
        )

    def needs(self) -> Needs:
        """Return what the wrapped strategy needs."""
        return self._needs

    def messages(self, given: PromptInput) -> list[Message]:
        """Return the wrapped strategy's messages about the masked text."""
        masked = replace(
            given,
            text=self._masked(given.text),
            examples=tuple(replace(one, text=self._masked(one.text)) for one in given.examples),
            id=self._masked(given.id),
            source=None if given.source is None else self._masked(given.source),
            columns={name: self._masked_value(value) for name, value in given.columns.items()},
        )
        return self._wrapped.messages(masked)

    def parse(self, answer: str, classes: Sequence[str]) -> str | None:
        """Read the answer as the wrapped strategy does."""
        return self._wrapped.parse(answer, classes)

    @cached_property
    def _needs(self) -> Needs:
        return self._wrapped.needs()

    def _masked(self, text: str) -> str:
        return self._mask(text, self.settings.kinds, self.settings.regions)

    def _masked_value(self, value: Any) -> Any:
        """Mask a column's value in its written form, since a number may be a telephone number."""
        written = str(value)
        masked = self._masked(written)
        return value if masked == written else masked
