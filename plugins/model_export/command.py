"""The command ``sentikit export``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit import InputError, SentikitError
from sentikit.extension import (
    LABEL_MAP,
    REVISION,
    complete_classifier,
    default_registry,
    label_map_of,
    working_on,
)

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_HOOK = "register_formats"
#: Prefix of parameters for a format's settings.
_PREFIX = "format_setting_"


class _ExportCommand(click.Command):
    """A command with an extra option for each setting of every format."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return all options; a format that cannot be loaded adds none."""
        own = super().get_params(ctx)
        return [*own[:-1], *_format_options(), own[-1]]


@click.command(
    cls=_ExportCommand,
    epilog="\b\nExamples:\n"
    "  sentikit export runs/quickstart exported --format onnx --int8\n"
    "  sentikit export runs/quickstart published --format hub --push jane/reviews",
)
@click.argument(
    "model",
    metavar="MODEL|RUN",
    type=click.Path(path_type=Path),
    shell_complete=complete_classifier,
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--format", "format_name", metavar="NAME", help="The format to write.")
@REVISION
@LABEL_MAP
def export(
    model: Path,
    folder: Path,
    format_name: str | None,
    revision: str | None,
    label_map: tuple[str, ...],
    **options: Any,
) -> None:
    """Write a run's model in another format, into a new or empty folder DIR."""
    from sentikit import export_model

    known = default_registry().names(_HOOK)
    if not format_name:
        raise InputError(f"Choose a format with --format: {', '.join(known)}.")
    given = {
        name.removeprefix(_PREFIX): value for name, value in options.items() if value is not None
    }
    _refuse_others_options(format_name, given)
    labels = label_map_of(label_map)
    with working_on("Exporting"):
        notes = export_model(model, folder, format_name, given, revision=revision, label_map=labels)
    for note in notes:
        click.echo(note, err=True)
    click.echo(folder)


def _format_options() -> list[click.Parameter]:
    """Return an option for each name of a setting, which several formats may share."""
    fields, owners = _settings()
    return [_option(field, fields[field], owners[field]) for field in fields]


def _refuse_others_options(format_name: str, given: Iterable[str]) -> None:
    owners = _settings()[1]
    for name in given:
        if format_name in default_registry().names(_HOOK) and format_name not in owners[name]:
            raise InputError(
                f"--{name.replace('_', '-')} belongs to --format {' or '.join(owners[name])}, not "
                f"to {format_name}. Leave it out, or choose the other format."
            )


def _settings() -> tuple[dict[str, FieldInfo], dict[str, list[str]]]:
    """Return the settings of all loadable formats, and the formats with each setting."""
    owners: dict[str, list[str]] = {}
    fields: dict[str, FieldInfo] = {}
    registry = default_registry()
    for name in registry.names(_HOOK):
        try:
            settings = registry.load(_HOOK, name).Settings
        except SentikitError:
            continue
        for field, information in settings.model_fields.items():
            owners.setdefault(field, []).append(name)
            fields.setdefault(field, information)
    return fields, owners


def _option(name: str, field: FieldInfo, formats: list[str]) -> click.Option:
    flag = field.annotation is bool
    return click.Option(
        [f"--{name.replace('_', '-')}", _PREFIX + name],
        is_flag=flag,
        flag_value=True if flag else None,
        default=None,
        metavar=None if flag else name.upper(),
        help=f"{', '.join(formats)}: {field.description or name}",
    )
