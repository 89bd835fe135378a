"""``sentikit estimate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit import InputError
from sentikit.extension import FILE, RATE, input_file, working_on

if TYPE_CHECKING:
    from sentikit import Estimate
    from sentikit.extension import Estimates, InputFile, LabelledTable


@click.command(
    epilog="\b\nExample:\n"
    "  sentikit estimate labelled.csv --checked checked.csv --by date:month --report shares.html"
)
@input_file("LABELLED")
@click.option(
    "--checked",
    type=FILE,
    required=True,
    metavar="CHECKED.csv",
    help="Texts of LABELLED that people labelled.",
)
@click.option(
    "--by",
    metavar="COLUMN",
    multiple=True,
    help="Estimate each group of a column, or each period of dates, such as date:month (also "
    ":week, :quarter, :year); repeatable.",
)
@click.option(
    "--level",
    type=RATE,
    default=0.95,
    show_default=True,
    metavar="L",
    help="Confidence level of the intervals.",
)
@click.option(
    "--report",
    type=FILE,
    metavar="FILE.html",
    help="Write a page with charts, for readers who did not label the table.",
)
@click.option("--open", "opened", is_flag=True, help="Open the report in the browser.")
@click.option(
    "--certificate",
    type=FILE,
    metavar="FILE.json",
    help="A certificate to show in the report; default: LABELLED with the ending "
    ".certificate.json.",
)
@click.option(
    "--chart",
    "charts",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="Draw or write the shares by the first --by, as .svg, .png or .csv; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the estimates as JSON.")
def estimate(source: InputFile, checked: Path, by: tuple[str, ...], **given: Any) -> None:
    """Estimate class shares, accuracy and macro-F1 of a labelled table, with intervals.

    The classifier's shares are corrected with the checked texts (prediction-powered inference).
    Groups with fewer than 30 checks are estimated together.
    """
    from sentikit.extension import format_for, refuse_overlap

    from .checked import read_checked
    from .checked_files import holds_checks
    from .pile import certificate_beside
    from .table_estimates import estimate_table
    from .tables import read_labelled

    if given["opened"] and given["report"] is None:
        raise click.UsageError("--open needs a report. Add --report FILE.html.")
    source.refuse_pipe()
    named, beside = given["certificate"], certificate_beside(source)
    if named is not None and not named.exists():
        raise InputError(f"--certificate {named} does not exist. Check the path.")
    if given["report"]:
        format_for(given["report"])
    for chart in given["charts"]:
        if chart.suffix.lower() not in (".svg", ".png", ".csv"):
            raise InputError(f"--chart {chart}: name it .svg, .png or .csv.")
    written = [("--report", given["report"]), *(("--chart", chart) for chart in given["charts"])]
    refuse_overlap(written, [*source.paths, checked, f"{checked}.json", named, beside])
    if holds_checks(Path(source.file)):
        raise InputError(
            f"{source.file} holds checks by people. Give it with --checked, and as LABELLED the "
            "table that sentikit label or predict wrote."
        )
    table = read_labelled(source, by)
    people = read_checked(checked, table.scheme)
    with working_on("Estimating"):
        found = estimate_table(table, people, given["level"])
    for warning in found.warnings:
        click.echo(f"Note: {_printable(warning)}", err=True)
    if given["as_json"]:
        click.echo(json.dumps(_record(found), ensure_ascii=False))
    else:
        _print(found)
    if given["report"] or given["charts"]:
        _draw(given, found, table, beside)


def _draw(given: dict[str, Any], found: Estimates, table: LabelledTable, beside: Path) -> None:
    """Draw the charts and write the report; the certificate may be `beside` the table."""
    import webbrowser

    from sentikit.extension import atomic_writer, format_for, read_json, report_format

    for chart in given["charts"]:
        click.echo(f"Drawn: {report_format().shares_chart(found, chart)}", err=True)
    if report := given["report"]:
        shown = given["certificate"] or (beside if beside.exists() else None)
        record = read_json(shown) if shown is not None else None
        page = format_for(report).estimates_page(found, table, record)
        with atomic_writer(report) as stream:
            stream.write(page)
        click.echo(f"Report: {report}", err=True)
        if given["opened"] and not webbrowser.open(report.resolve().as_uri()):
            click.echo("No browser could be opened. Open the file in one.", err=True)


def _print(found: Estimates) -> None:
    level = f"{found.shares[0].level:.0%}"
    click.echo(f"{'share':<34} {'estimate':>8}  {level + ' interval':<16} {'model says':>10}")
    for column, estimates in [("", found.shares), *found.by_group.items()]:
        for one in estimates:
            group = "" if one.group is None else f"{column} {one.group}: "
            name = _printable(f"{group}{found.classes[int(one.name)]}")
            click.echo(f"{name:<34} {_numbers(one)} {one.raw or 0:>10.1%}")
    for one in found.accuracy:
        click.echo(f"{str(one.name).replace('_', '-'):<34} {_numbers(one)}")
    clear = [d for d in found.differences if d["p_holm"] < 0.05]
    for entry in clear:
        one, other = entry["groups"]
        line = f"{entry['class']}: {entry['column']} {other} {entry['difference']:+.1%} against "
        click.echo(_printable(f"{line}{one} (p {entry['p_holm']:.3g}, Holm)"))
    if found.differences and not clear:
        click.echo("No difference between groups is significant on these checks (Holm, .05).")


def _printable(text: str) -> str:
    """Return a line without control characters, which a terminal would execute."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _numbers(one: Estimate) -> str:
    return f"{one.value:>8.1%}  {f'{one.low:.1%} to {one.high:.1%}':<16}"


def _record(found: Estimates) -> dict[str, Any]:
    def named(one: Estimate) -> dict[str, Any]:
        return asdict(one) | {"name": found.classes[int(one.name)]}

    return {
        "classes": list(found.classes),
        "shares": [named(one) for one in found.shares],
        "by": {column: [named(one) for one in own] for column, own in found.by_group.items()},
        "accuracy": asdict(found.accuracy.accuracy),
        "macro_f1": asdict(found.accuracy.macro_f1),
        "differences": found.differences,
        "warnings": found.warnings,
    }
