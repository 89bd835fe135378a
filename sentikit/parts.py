"""What every part behind a hook has in common: settings of its own, checked before use."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

#: A part as a recipe names it: its registered name, and its settings.
Section = dict[str, Any]


def as_section(raw: Any) -> Any:
    """Let a name stand for a section of that name, as in ``--set training.optimizer=adam``."""
    return {"name": raw} if isinstance(raw, str) else raw


class PartSettings(BaseModel):
    """Base of a part's settings: frozen, unknown keys refused, numbers welcome as text.

    A recipe's section gives a part's registered ``name`` beside these keys.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )


class Part:
    """Base of whatever a plugin registers: it is made from its own settings.

    Parts are made while a recipe is checked: ``__init__`` loads nothing, but may raise an
    ``InputError`` for a package that is missing. A subclass names its settings class::

        class Reviews(sentikit.DatasetLoader):
            class Settings(sentikit.PartSettings):
                path: str
    """

    Settings: ClassVar[type[PartSettings]] = PartSettings

    def __init__(self, settings: PartSettings) -> None:
        self.settings = settings
