"""Formats for publication, with a model card and an upload on request; the format ``hub``."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pydantic import Field, model_validator

from sentikit import InputError
from sentikit.extension import ComponentSettings, ExportSource, ModelFormat, read_json, write_json

if TYPE_CHECKING:
    from .card import CardFacts

CONFIG = "config.json"
#: The files of a model folder to publish; others, such as pickled weights, are not copied.
_PUBLISHED = (".json", ".safetensors", ".onnx", ".txt", ".model")


class PublishedFormat(ModelFormat):
    """A format whose folders have a model card and can be uploaded."""

    #: The library that loads the folder, for the card.
    library: ClassVar[str]

    class Settings(ComponentSettings):
        """Options of ``sentikit export``."""

        push: str | None = Field(
            None, description="also upload to this repository of the hub, owner/name"
        )
        private: bool = Field(False, description="with --push: make a new repository private")

        @model_validator(mode="after")
        def _private_needs_push(self) -> PublishedFormat.Settings:
            if self.private and not self.push:
                raise ValueError("--private needs --push owner/name")
            return self

    settings: Settings

    @abstractmethod
    def write(self, source: ExportSource, folder: Path) -> list[str]:
        """Write the model into `folder`; see `export`."""

    def export(self, source: ExportSource, folder: Path) -> list[str]:
        """Write the model and ``README.md``, and push on request.

        Raises:
            InputError: the format cannot represent the model, the repository's name is malformed,
                or there is no token.
            SentikitError: the hub cannot be reached or refuses.
        """
        from .card import write_card
        from .pushing import needed_token, push

        repository = self.settings.push
        token = needed_token(repository) if repository else ""
        notes = self.write(source, folder)
        write_card(_facts(source, repository, self.library), folder / "README.md")
        if not repository:
            return [*notes, "Read README.md before you publish it, and name a licence there."]
        address = push(folder, repository, token, self.settings.private)
        return [*notes, f"Uploaded to {address}."]


class HubFormat(PublishedFormat):
    """The format ``hub``."""

    library = "sentikit"

    def recognises(self, folder: Path) -> bool:
        """Return False: `export` writes a folder in the model's own format."""
        return False

    def load(self, folder: Path, device: str, precision: str) -> NoReturn:
        """Refuse: no folder is recognised."""
        raise InputError(f"{folder} is loaded in the format that the model in it has.")

    def write(self, source: ExportSource, folder: Path) -> list[str]:
        """Copy the model folder."""
        _copy_model(source.folder, folder)
        return []


def _copy_model(source: Path, folder: Path) -> None:
    from .card import without_local_folders

    for path in sorted(source.rglob("*")):
        place = path.relative_to(source)
        hidden = any(part.startswith(".") for part in place.parts)
        if path.is_file() and path.suffix in _PUBLISHED and not hidden:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / place)
    write_json(folder / CONFIG, without_local_folders(read_json(source / CONFIG)))


def _facts(source: ExportSource, repository: str | None, library: str) -> CardFacts:
    from .card import CardFacts

    manifest = source.run_file("manifest.json") or {}
    own_metrics = manifest.get("status") == "finished"
    name = (source.run or source.path).resolve().name
    return CardFacts(
        title=repository.partition("/")[2] if repository else name,
        repository=repository,
        library=library,
        labels=source.classifier.labels,
        encoder=_encoder(source),
        manifest=manifest,
        metrics=(source.run_file("metrics.json") or {}) if own_metrics else {},
    )


def _encoder(source: ExportSource) -> str:
    description = source.description
    if description is None:
        config: dict[str, Any] = read_json(source.folder / CONFIG)
        return str(config.get("model_type") or "unknown")
    from .card import without_local_folders

    section = without_local_folders(description.encoder)
    return str(section.get("model") or section.get("name"))
