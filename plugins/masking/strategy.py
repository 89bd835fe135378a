"""The prompt strategy ``masked``: another strategy that never sees personal data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from sentikit import InputError
from sentikit.extension import (
    Message,
    Needs,
    PartSettings,
    PromptInput,
    PromptStrategy,
    open_component,
)

Kind = Literal["email", "url", "iban", "card", "ssn", "ip", "handle", "phone"]


class Masked(PromptStrategy):
    """Masks the text, the examples and the other columns before the wrapped strategy sees them."""

    class Settings(PartSettings):
        """What is masked, and for which strategy."""

        strategy: dict[str, Any] = Field(
            default_factory=lambda: {"name": "zero-shot"},
            description="the strategy to wrap: its name and own settings",
        )
        kinds: tuple[Kind, ...] = Field(
            ("email", "url", "iban", "card", "ssn", "ip", "handle", "phone"),
            min_length=1,
            description="what is masked: email, url, iban, card, ssn, ip, handle, phone",
        )
        regions: tuple[str, ...] = Field(
            ("US",), description="regions of telephone numbers without country code, as US, DE"
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
        columns = {
            name: self._masked(value) if isinstance(value, str) else value
            for name, value in given.columns.items()
        }
        examples = tuple(replace(one, text=self._masked(one.text)) for one in given.examples)
        text = self._masked(given.text)
        return self._wrapped.messages(replace(given, text=text, examples=examples, columns=columns))

    def parse(self, answer: str, classes: Sequence[str]) -> str | None:
        """Read the answer as the wrapped strategy does."""
        return self._wrapped.parse(answer, classes)

    @cached_property
    def _needs(self) -> Needs:
        return self._wrapped.needs()

    def _masked(self, text: str) -> str:
        return self._mask(text, self.settings.kinds, self.settings.regions)
