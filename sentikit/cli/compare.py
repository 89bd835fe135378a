"""``sentikit compare``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli.options import PLOTS_FOLDER, REPORT, Report, check_plots, write_charts
from sentikit.command_options import RATE, FiniteRange, complete_classifier
from sentikit.errors import InputError
from sentikit.terminal import data_output, print_sentence, print_table

if TYPE_CHECKING:
    from sentikit.comparison.judgement import Comparison
    from sentikit.reports import Section

_FORMATS = ("table", "json", "csv", "markdown", "latex")


@click.command(epilog="Example: sentikit compare runs/e1 runs/b3 runs/e3 --baseline runs/b3")
@click.argument("runs", metavar="[RUN|FILE]...", nargs=-1, shell_complete=complete_classifier)
@click.option("--baseline", metavar="RUN", help="Compare each run to this one, not all pairs.")
@click.option("--dataset", metavar="NAME", help="The dataset with gold labels and sources.")
@click.option("--split", metavar="S", help="Its split; default: test.")
@click.option("--path", metavar="DIR", help="The folder of the dataset's files.")
@click.option("--intersect", is_flag=True, help="Compare the texts that all runs share.")
@click.option(
    "--sample-size",
    type=RATE,
    metavar="DELTA",
    help="Print how many test texts can show this difference, such as 0.01 for one point.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Number of resamples of each bootstrap and permutation test.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=42,
    show_default=True,
    help="Seed of the random numbers.",
)
@click.option(
    "--confidence", type=RATE, default=0.95, show_default=True, help="Confidence of the intervals."
)
@click.option(
    "--gpu-rate",
    type=FiniteRange(min=0),
    metavar="USD",
    help="Cost of an hour of each device, for the cost of training.",
)
@click.option(
    "--training-cost",
    multiple=True,
    metavar="RUN=USD",
    help="A run's training cost, if its manifest does not record it; repeatable.",
)
@click.option(
    "--inference-cost",
    multiple=True,
    metavar="RUN=USD",
    help="Cost of 1,000 of a run's answers, if it is not recorded; repeatable.",
)
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), help="Format of the output; default: table."
)
@click.option(
    "--rows",
    type=click.Choice(["runs", "pairs"]),
    default="runs",
    show_default=True,
    help="Rows of the CSV.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@REPORT
@PLOTS_FOLDER
def compare(
    runs: tuple[str, ...],
    baseline: str | None,
    dataset: str | None,
    split: str | None,
    path: str | None,
    intersect: bool,
    sample_size: float | None,
    resamples: int,
    seed: int,
    confidence: float,
    gpu_rate: float | None,
    training_cost: tuple[str, ...],
    inference_cost: tuple[str, ...],
    form: str | None,
    rows: str,
    as_json: bool,
    report: Report | None,
    plots: Path | None,
) -> None:
    """Judge runs: scores, significance, cost, and which one to use.

    RUN is a run's folder; FILE a CSV, TSV, JSON Lines or Parquet file of predictions;
    PATH#encoder the encoder's prediction recorded in either. Without any, all finished runs under
    runs/ are compared.
    """
    from sentikit.comparison.comparison import compare as judge

    form = _form(form, as_json, rows)
    check_plots(plots)
    comparison = judge(
        runs,
        baseline=baseline,
        dataset=dataset,
        split=split,
        path=path,
        intersect=intersect,
        sample_size=sample_size,
        resamples=resamples,
        seed=seed,
        confidence=confidence,
        gpu_rate=gpu_rate,
        training_cost=_amounts("--training-cost", training_cost),
        inference_cost=_amounts("--inference-cost", inference_cost),
        progress=True,
    )
    _print(comparison, form, rows)
    write_charts(comparison, report, plots)


def _form(form: str | None, as_json: bool, rows: str) -> str:
    if as_json and form not in (None, "json"):
        raise InputError(f"--json and --format {form} are mutually exclusive. Give one of them.")
    chosen = "json" if as_json else form or "table"
    if rows != "runs" and chosen != "csv":
        raise InputError(f"--rows {rows} needs CSV. Add --format csv, or leave it out.")
    return chosen


def _print(comparison: Comparison, form: str, rows: str) -> None:
    from sentikit.reports import report_format

    if form == "table":
        _print_tables(*report_format().sections(comparison))
    elif form == "json":
        click.echo(json.dumps(comparison.to_json(), indent=2, allow_nan=False))
    elif form == "csv":
        _print_csv(report_format().records(comparison, rows))
    else:
        names = {"markdown": "md", "latex": "tex"}
        data_output().write(report_format(names[form]).comparison_page(comparison, None))


def _print_tables(sections: list[Section], sentences: list[str]) -> None:
    for section in sections:
        numbers = [column for column in section.columns if column not in section.texts]
        print_table(section.title, section.columns, section.rows, numbers)
        click.echo()
    for sentence in sentences:
        print_sentence(sentence)


def _print_csv(records: list[dict[str, Any]]) -> None:
    """Print records as CSV, with cells escaped that a spreadsheet would run as formulas."""
    from sentikit.labelling.table_writer import without_formula

    columns = list(dict.fromkeys(column for record in records for column in record))
    writer = csv.writer(data_output(), lineterminator="\n")
    writer.writerow(map(without_formula, columns))
    for record in records:
        writer.writerow([without_formula(record.get(column)) for column in columns])


def _amounts(option: str, given: tuple[str, ...]) -> dict[str, float]:
    """Parse RUN=USD at the last =, because paths may contain others."""
    amounts = {}
    for item in given:
        name, _, amount = item.rpartition("=")
        try:
            value = float(amount)
        except ValueError:
            value = -1.0
        if not name or not 0 <= value < float("inf"):
            raise click.BadParameter(
                f"{item!r} is not RUN=USD, such as runs/e1=9.73.", param_hint=option
            )
        amounts[name] = value
    return amounts
