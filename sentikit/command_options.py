"""Options that the commands of the core and of plugins share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.errors import InputError, SentikitError, quoted

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sentikit.datasets.tables import InputFile

Command = Callable[..., Any]


class FiniteRange(click.FloatRange):
    """A `click.FloatRange` that refuses ``nan`` and ``inf``, which click accepts."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or refuse the option with exit code 2."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def label_map_of(given: Sequence[str]) -> dict[str, str] | None:
    """Return the mapping that the values of `LABEL_MAP` spell, or None without any.

    Args:
        given: each LABEL=CLASS, or several of them separated by commas.

    Raises:
        InputError: a value is not LABEL=CLASS, or a label comes twice.
    """
    found: dict[str, str] = {}
    for pair in ",".join(given).split(",") if given else ():
        label, equals, meant = (part.strip() for part in pair.rpartition("="))
        if not label or not equals or not meant:
            raise InputError(
                f"--label-map {quoted(pair)} is not of the form LABEL=CLASS, such as "
                "LABEL_0=negative,LABEL_1=positive."
            )
        if label in found:
            raise InputError(f"--label-map names the label {quoted(label)} twice.")
        found[label] = meant
    return found or None


def complete_recipe(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a recipe, or of a file."""
    from sentikit.registry import default_registry

    return _completions(default_registry().names("register_recipes"), incomplete)


def complete_classifier(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a run under ``runs/``, the name of a plugin's classifier or recipe, or a file."""
    from sentikit.registry import default_registry
    from sentikit.runs.folder import MANIFEST, RUNS

    runs = sorted(path.parent.as_posix() for path in RUNS.glob(f"*/{MANIFEST}"))
    registry = default_registry()
    named = [*registry.names("register_classifiers"), *registry.names("register_recipes")]
    return _completions([*runs, *dict.fromkeys(named if incomplete else [])], incomplete)


def complete_column(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a column of the table that the command's FILE names."""
    from sentikit.datasets.tables import read_rows

    # Click leaves arguments in `args` where the option that is completed has no value yet.
    for given in [*reversed(context.args), context.params.get("file")]:
        if given and Path(given).is_file():
            try:
                with read_rows(Path(given)) as rows:
                    return _completions(rows.columns, incomplete)
            except SentikitError:
                break
    return []


def _completions(names: Sequence[str], incomplete: str) -> list[CompletionItem]:
    """Return the names that begin as typed, or let the shell offer files where there are none."""
    from click.shell_completion import CompletionItem

    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


#: The type of an option that names a file.
FILE = click.Path(path_type=Path, dir_okay=False)
#: The type of an option that is a probability or a share strictly between 0 and 1.
RATE = FiniteRange(0, 1, min_open=True, max_open=True)

RECIPE = click.option(
    "--recipe",
    metavar="NAME|FILE",
    shell_complete=complete_recipe,
    help="A recipe's name, or a YAML file.",
)
SETTINGS = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change one value of the recipe, such as training.lr=1e-5; repeatable.",
)
OUTPUT = click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The run's folder; default: runs/ and the recipe's name.",
)
TEXT_COLUMNS = click.option(
    "--text-column",
    "text_columns",
    metavar="C",
    multiple=True,
    shell_complete=complete_column,
    help="The column of the texts, or a path such as review.text; several are joined.",
)
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."
)
THREADS = click.option("--threads", type=click.IntRange(min=1), help="CPU threads of each process.")
REVISION = click.option(
    "--revision", metavar="R", help="Branch, tag or commit of a model on the hub."
)
ESTIMATE = click.option("--estimate", is_flag=True, help="Estimate tokens and cost; send nothing.")
MAX_COST = click.option(
    "--max-cost",
    type=FiniteRange(min=0, min_open=True),
    metavar="USD",
    help="Spend no more: a call is made only if its worst-case cost still fits the budget.",
)
RESUME = click.option(
    "--resume", is_flag=True, help="Resume work that was stopped or killed, or retry failed rows."
)


def _checked_map(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse a malformed map before any work; the command gets the values as typed."""
    label_map_of(given)
    return given


#: Its values are a tuple of strings, which `label_map_of` turns into a mapping.
LABEL_MAP = click.option(
    "--label-map",
    metavar="LABEL=CLASS,…",
    multiple=True,
    callback=_checked_map,
    help="Classes of a transformers model's labels, such as LABEL_0=negative,LABEL_1=positive.",
)


def packed_options(
    options: Sequence[Command],
    name: str,
    keys: Sequence[str],
    make: Callable[[dict[str, Any]], Any],
) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command and passes them as one argument."""

    def add(command: Command) -> Command:
        @functools.wraps(command)
        def packed(*args: Any, **given: Any) -> Any:
            own = {key: given.pop(key) for key in keys}
            return command(*args, **{name: make(own)}, **given)

        return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), packed)

    return add


def _input(fields: dict[str, Any]) -> InputFile:
    from sentikit.datasets.tables import InputFile

    return InputFile(**fields)


_READING = (
    TEXT_COLUMNS,
    click.option(
        "--input-format",
        "kind",
        metavar="FORMAT",
        help="csv, tsv, tsv-unquoted, jsonl, json, parquet, arrow, xlsx or text; default: by the "
        "file's suffix, text for a pipe.",
    ),
    click.option("--sheet", metavar="NAME", help="The sheet of an Excel workbook."),
    click.option("--strip-markup", is_flag=True, help="Remove HTML from the texts."),
    click.option(
        "--sql",
        "query",
        metavar="SELECT",
        help="Read the rows of a SELECT over files or --database instead of a file (extra sql).",
    ),
    click.option(
        "--database",
        metavar="DB",
        help="A DuckDB or SQLite file, or postgresql://user@host/name without a password.",
    ),
)


def input_file(metavar: str) -> Callable[[Command], Command]:
    """Return a decorator that adds a table of texts to a command, as the argument ``source``.

    These are the argument FILE, shown as `metavar`, and the options for reading it.
    """
    file = click.argument("file", metavar=metavar, default="-", type=click.Path())
    keys = ("file", "text_columns", "kind", "sheet", "strip_markup", "query", "database")
    return packed_options((file, *_READING), "source", keys, _input)
