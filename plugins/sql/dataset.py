"""The dataset ``sql``: one query per split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sentikit import Examples, InputError
from sentikit.extension import ComponentSettings, DatasetLoader, ExamplesBuilder, Rows

from .connection import open_query, refuse_password

SPLITS = ("train", "validation", "test")


class Sql(DatasetLoader):
    """The rows of SELECTs: one query per split, read-only, in batches of rows."""

    class Settings(ComponentSettings):
        """The queries, the database and the columns."""

        train: str | None = Field(None, description="query for the training examples")
        validation: str | None = Field(None, description="query for the validation examples")
        test: str | None = Field(None, description="query for the test examples")
        database: str | None = Field(
            None,
            description="DuckDB or SQLite file, or postgresql://user@host/name (password from "
            "PGPASSWORD or ~/.pgpass); without it, files are read by their names in the query",
        )
        text: str | tuple[str, ...] | None = Field(
            None, description="column of the texts, or several to join; default: found by name"
        )
        markup: Literal["keep", "strip"] = Field(
            "keep", description="strip: remove HTML from the texts"
        )
        label: str | None = Field(None, description="column of the labels; default: found by name")
        source: str | None = Field(
            None, description="column of the sources; default: found by name"
        )
        id: str | None = Field(None, description="column of the ids; default: found by name")

        @model_validator(mode="after")
        def _holds_a_query(self) -> Sql.Settings:
            if all(getattr(self, split) is None for split in SPLITS):
                raise ValueError(
                    "give at least one query: --set dataset.test='SELECT …' (or train, validation)"
                )
            return self

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        for given in (settings.database, *(getattr(settings, split) for split in SPLITS)):
            refuse_password(given or "")

    def splits(self) -> tuple[str, ...]:
        """Return the splits that have a query."""
        return tuple(split for split in SPLITS if getattr(self.settings, split) is not None)

    def load(self, split: str) -> Examples:
        """Run a split's query.

        Raises:
            InputError: it is not exactly one SELECT, or cannot be run.
        """
        builder = ExamplesBuilder()
        with self.rows(split) as rows:
            wanted = self.settings.text
            named = (wanted,) if isinstance(wanted, str) else wanted or ()
            texts = rows.find_text_columns(named, "dataset.text=COLUMN")
            others = {
                what: rows.find_optional_column(what, getattr(self.settings, what))
                for what in ("label", "source", "id")
            }
            present = [column for column in others.values() if column]
            for _, text, cells in rows.texts(texts, present, self.settings.markup == "strip"):
                found = dict(zip(present, cells, strict=True))
                label, source, id_ = (found.get(c or "") or None for c in others.values())
                builder.add(text, label=label, source=source, id=id_)
        return builder.finish()

    def rows(self, split: str) -> Rows:
        """Run a split's query; its rows are read on demand."""
        query = getattr(self.settings, split, None)
        if query is None:
            raise InputError(f"There is no query for the split {split!r}.")
        return open_query(query, self.settings.database)
