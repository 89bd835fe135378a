"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sentikit.command_options import DEVICE, FILE, LABEL_MAP, REVISION, TEXT_COLUMNS, label_map_of
from sentikit.errors import InputError
from sentikit.files import refuse_unwritable
from sentikit.terminal import print_text

if TYPE_CHECKING:
    from sentikit.classifiers.classifier import Classifier
    from sentikit.classifiers.loading import LoadingOptions
    from sentikit.comparison.judgement import Comparison
    from sentikit.datasets.tables import InputFile
    from sentikit.ensembles.cascade import JudgedCascade
    from sentikit.processes.group import ProcessGroup
    from sentikit.recipe.resolving import ResolvedRecipe
    from sentikit.registry import Registry

DATASET_SETTINGS = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set one key of the dataset section, as 'label_map={good: positive}'; repeatable.",
)
_INPUT = (
    click.argument("file", metavar="[FILE|-]", default="-"),
    TEXT_COLUMNS,
    click.option(
        "--input-format",
        "kind",
        metavar="FORMAT",
        help="csv, tsv, tsv-unquoted, jsonl, json, parquet, arrow, xlsx or text; default: by the "
        "file's ending, text for a pipe.",
    ),
    click.option("--sheet", metavar="NAME", help="The sheet of an Excel workbook with several."),
    click.option("--strip-markup", is_flag=True, help="Take HTML off the texts."),
    click.option(
        "--sql",
        "query",
        metavar="SELECT",
        help="Instead of FILE, the rows of one SELECT over files or --database (extra sql).",
    ),
    click.option(
        "--database",
        metavar="DB",
        help="A DuckDB or SQLite file, or postgresql://user@host/name; no password in it.",
    ),
)


Command = Callable[..., Any]


def _packed(
    options: Sequence[Command],
    name: str,
    keys: Sequence[str],
    make: Callable[[dict[str, Any]], Any],
) -> Callable[[Command], Command]:
    """Return what adds options to a command, which gets them as one argument."""

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


_INPUT_KEYS = ("file", "text_columns", "kind", "sheet", "strip_markup", "query", "database")
#: Lets a command take a table of texts: FILE, with the options that say how to read it.
input_file = _packed(_INPUT, "source", _INPUT_KEYS, _input)


def resolved_recipe(name: str, settings: Sequence[str], registry: Registry) -> ResolvedRecipe:
    """Resolve a recipe, and say on standard error what the user should know about it."""
    from sentikit.recipe.resolving import resolve_recipe

    recipe = resolve_recipe(name, settings, registry)
    for note in recipe.notes:
        print_text(f"Note: {note}", err=True)
    for warning in recipe.warnings:
        warn(warning)
    return recipe


def warn(said: str) -> None:
    print_text(f"Warning: {said}", err=True)


def draw(run: Path) -> None:
    from sentikit.reports import report_format

    for path in report_format().run_plots(run):
        click.echo(f"Drawn: {path}", err=True)


def _report(given: dict[str, Any]) -> Report | None:
    """Refuse a name that another kind of file has: a report replaces what is there."""
    if given["report"] is None:
        if given["opened"]:
            raise click.UsageError("--open opens the report: add --report FILE.html.")
        return None
    from sentikit.reports import format_for

    format_for(given["report"])
    refuse_unwritable(given["report"])
    return Report(given["report"], given["opened"])


class Report(NamedTuple):
    """Where a report goes, and whether it is opened in the browser then."""

    path: Path
    opened: bool


REPORT = _packed(
    (
        click.option(
            "--report",
            type=FILE,
            metavar="FILE.html",
            help="Write a report in one page that opens in any browser.",
        ),
        click.option("--open", "opened", is_flag=True, help="Open the report in the browser."),
    ),
    "report",
    ("report", "opened"),
    _report,
)


PLOTS_FOLDER = click.option(
    "--plots",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Draw plots for a paper into this folder, as PNG and SVG.",
)


def check_plots(plots: Path | bool | None) -> None:
    """Make sure, before there is any work, that plots can be drawn where they are asked for."""
    if isinstance(plots, Path):
        refuse_unwritable(plots)
    if plots:
        from sentikit.reports import report_format

        report_format().check_plotting()


def write_charts(
    comparison: Comparison,
    report: Report | None,
    plots: Path | None,
    cascade: JudgedCascade | None = None,
) -> None:
    """Write a report and plots where they are asked for, and say where they are."""
    if report:
        import webbrowser

        from sentikit.reports import write_report

        write_report(comparison, report.path, cascade)
        click.echo(f"Report: {report.path}", err=True)
        if report.opened and not webbrowser.open(report.path.resolve().as_uri()):
            click.echo("No browser could be opened here; open the file in one.", err=True)
    if plots:
        from sentikit.reports import save_plots

        for path in save_plots(comparison, plots, cascade):
            click.echo(f"Drawn: {path}", err=True)


CLASSIFIER = click.argument("model", metavar="X")


def _loading(given: dict[str, Any]) -> LoadingOptions:
    from sentikit.classifiers.loading import LoadingOptions

    return LoadingOptions(**given | {"label_map": label_map_of(given["label_map"])})


#: How a classifier is loaded.
LOADING = _packed(
    (
        DEVICE,
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
            default="auto",
            show_default=True,
            help="auto: bf16 where it is faster, else fp32; int8: ONNX folders that have it.",
        ),
        click.option(
            "--calibrated",
            is_flag=True,
            help="Give probabilities at the temperature that was fitted on validation.",
        ),
        REVISION,
        LABEL_MAP,
    ),
    "loading",
    ("device", "precision", "calibrated", "revision", "label_map"),
    _loading,
)
PLOTS = click.option("--plots", is_flag=True, help="Draw PNG files into the run's folder plots.")
BATCH = click.option(
    "--batch", is_flag=True, help="Use the provider's batch service: slower, cheaper."
)
ENSEMBLE_OUTPUT = click.option(
    "--output", type=click.Path(path_type=Path), metavar="DIR", help="Leave a run in this folder."
)


NPROC = click.option(
    "--nproc", type=click.IntRange(min=1), help="Processes to start on this machine."
)


def start_processes(context: click.Context, processes: int | None, device: str) -> None:
    """Do the command in several processes, where asked to, and end with their exit code."""
    if processes is None or processes == 1:
        return
    from sentikit.processes.launching import launch_processes

    launch_processes(context, processes, device)


@contextmanager
def joined_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes that a launcher has started, if any, and fail as one with them."""
    from sentikit.processes.group import joined_processes

    with joined_processes():
        from sentikit.processes.group import ProcessGroup

        group = ProcessGroup()
        group.join(device)
        yield group


def shared(classifier: Classifier, group: ProcessGroup) -> Classifier:
    """Return a classifier whose texts the group shares."""
    from sentikit.classifiers.encoder_classifier import EncoderClassifier, SharedClassifier

    if group.processes == 1:
        return classifier
    if not isinstance(classifier, EncoderClassifier):
        raise InputError(
            "Several processes share the texts of an encoder alone. Leave --nproc out."
        )
    return SharedClassifier(classifier, group)
