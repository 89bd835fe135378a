"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sentikit.command_options import (
    DEVICE,
    FILE,
    LABEL_MAP,
    REVISION,
    complete_classifier,
    label_map_of,
    packed_options,
)
from sentikit.errors import InputError
from sentikit.files import refuse_unwritable
from sentikit.terminal import print_text, working_on

if TYPE_CHECKING:
    from sentikit.classifiers.classifier import Classifier
    from sentikit.classifiers.loading import LoadingOptions
    from sentikit.comparison.judgement import Comparison
    from sentikit.ensembles.cascade import JudgedCascade
    from sentikit.labelling.loading import FoundClassifier
    from sentikit.processes.group import ProcessGroup
    from sentikit.recipe.resolving import ResolvedRecipe
    from sentikit.registry import Registry

DATASET_SETTINGS = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set one key of the dataset section, such as 'label_map={good: positive}'; repeatable.",
)


def resolved_recipe(name: str, settings: Sequence[str], registry: Registry) -> ResolvedRecipe:
    """Resolve a recipe, and print its notes and warnings on standard error."""
    from sentikit.recipe.resolving import resolve_recipe

    recipe = resolve_recipe(name, settings, registry)
    for note in recipe.notes:
        print_text(f"Note: {note}", err=True)
    for warning in recipe.warnings:
        warn(warning)
    return recipe


def warn(message: str) -> None:
    print_text(f"Warning: {message}", err=True)


def draw(run: Path) -> None:
    from sentikit.reports import report_format

    for path in report_format().run_plots(run):
        click.echo(f"Drawn: {path}", err=True)


def _report(given: dict[str, Any]) -> Report | None:
    """Refuse a file name without a report's suffix, because the file is replaced."""
    if given["report"] is None:
        if given["opened"]:
            raise click.UsageError("--open needs a report. Add --report FILE.html.")
        return None
    from sentikit.reports import format_for

    format_for(given["report"])
    refuse_unwritable(given["report"])
    return Report(given["report"], given["opened"])


class Report(NamedTuple):
    """The file of a report, and whether to open it in the browser."""

    path: Path
    opened: bool


REPORT = packed_options(
    (
        click.option(
            "--report",
            type=FILE,
            metavar="FILE.html",
            help="Write a report as one HTML page. Replaces an existing file.",
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
    help="Draw plots into this folder, as PNG and SVG.",
)


def check_plots(plots: Path | bool | None) -> None:
    """Check, before any work, that requested plots can be drawn."""
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
    """Write the requested report and plots, and print their paths."""
    if report:
        import webbrowser

        from sentikit.reports import write_report

        write_report(comparison, report.path, cascade)
        click.echo(f"Report: {report.path}", err=True)
        if report.opened and not webbrowser.open(report.path.resolve().as_uri()):
            click.echo("No browser could be opened. Open the file in one.", err=True)
    if plots:
        from sentikit.reports import save_plots

        for path in save_plots(comparison, plots, cascade):
            click.echo(f"Drawn: {path}", err=True)


CLASSIFIER = click.argument("model", metavar="X", shell_complete=complete_classifier)


def _loading(given: dict[str, Any]) -> LoadingOptions:
    from sentikit.classifiers.loading import LoadingOptions

    return LoadingOptions(**given | {"label_map": label_map_of(given["label_map"])})


#: How a classifier is loaded.
LOADING = packed_options(
    (
        DEVICE,
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
            default="auto",
            show_default=True,
            help="auto: bf16 if it is faster, else fp32; int8: for ONNX folders that have it.",
        ),
        click.option(
            "--calibrated",
            is_flag=True,
            help="Scale probabilities with the temperature fitted on validation.",
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
    "--output", type=click.Path(path_type=Path), metavar="DIR", help="Save a run in this folder."
)


NPROC = click.option(
    "--nproc", type=click.IntRange(min=1), help="Processes to start on this machine."
)


def start_processes(context: click.Context, processes: int | None, device: str) -> None:
    """Run the command in several processes if requested, and exit with their exit code."""
    if processes is None or processes == 1:
        return
    from sentikit.processes.launching import launch_processes

    launch_processes(context, processes, device)


@contextmanager
def joined_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes of a launcher, if any, and fail together with them."""
    from sentikit.processes.group import joined_processes

    with joined_processes():
        from sentikit.processes.group import ProcessGroup

        group = ProcessGroup()
        group.join(device)
        yield group


def shared(found: FoundClassifier, group: ProcessGroup) -> Classifier:
    """Load a classifier that divides its texts among the group."""
    with working_on("Loading the classifier", group.is_main_process):
        classifier = found.load()
    from sentikit.classifiers.encoder_classifier import EncoderClassifier, SharedClassifier

    if group.processes == 1:
        return classifier
    if not isinstance(classifier, EncoderClassifier):
        raise InputError("Only an encoder can run in several processes. Leave out --nproc.")
    return SharedClassifier(classifier, group)
