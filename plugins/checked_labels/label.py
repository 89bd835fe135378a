"""``sentikit label``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit import InputError
from sentikit.extension import (
    DEVICE,
    FILE,
    MAX_COST,
    RATE,
    RESUME,
    complete_classifier,
    input_file,
    refuse_overlap,
    resumable,
    working_on,
    written_kind,
)

if TYPE_CHECKING:
    from sentikit import Classifier
    from sentikit.extension import FoundClassifier, InputFile, LabellingOptions, Labels

    from .certification import Labelling, Matched
    from .combination import Combination
    from .pile import Pile
    from .pile_job import PileJob


@click.command(
    epilog="\b\nExamples:\n"
    "  sentikit label reviews.csv --with runs/minilm --plan\n"
    "  sentikit label reviews.csv --with runs/minilm --checked checked.csv --output labelled.csv\n"
    "  sentikit label reviews.csv --with runs/minilm --agree-with runs/llm --output labelled.csv"
)
@input_file("FILE")
@click.option(
    "--with",
    "members",
    metavar="X",
    shell_complete=complete_classifier,
    multiple=True,
    required=True,
    help="A classifier: run, recipe, model or results file; repeatable, to combine several.",
)
@click.option(
    "--fit",
    type=FILE,
    metavar="OTHER.csv",
    help="Texts with labels by people, none of them in CHECKED.csv, on which the combination of "
    "several --with is fitted. Default: a product of probabilities, which needs no labels.",
)
@click.option(
    "--checked",
    type=FILE,
    metavar="CHECKED.csv",
    help="Texts of FILE, drawn uniformly and labelled by people.",
)
@click.option("--accuracy", type=RATE, default=0.9, show_default=True, metavar="A")
@click.option(
    "--level",
    type=RATE,
    default=0.9,
    show_default=True,
    metavar="L",
    help="Confidence level of the guarantee.",
)
@click.option(
    "--looks",
    type=click.IntRange(min=1),
    metavar="K",
    help="Planned looks at CHECKED.csv, each with an equal part of the risk. Default: 1.",
)
@click.option(
    "--plan", is_flag=True, help="Forecast the certified share for several numbers of checks."
)
@click.option(
    "--guessed-accuracy",
    type=RATE,
    default=0.82,
    show_default=True,
    metavar="A",
    help="Share of correct labels that --plan assumes.",
)
@click.option(
    "--agree-with",
    metavar="X",
    help="Certify agreement with this LLM, which is only asked about a sample and the rest.",
)
@click.option("--agreement", type=RATE, default=0.95, show_default=True, metavar="A")
@click.option(
    "--sample",
    type=click.IntRange(min=30),
    default=300,
    show_default=True,
    metavar="N",
    help="Size of the sample that the LLM of --agree-with labels first.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of that sample.")
@click.option(
    "--output",
    type=FILE,
    metavar="OUT",
    help="The labelled table. Replaces an existing file and its certificate, but none with checks.",
)
@click.option(
    "--certificate",
    type=FILE,
    metavar="FILE.json",
    help="Default: OUT with the ending .certificate.json. Replaces an existing file.",
)
@click.option(
    "--review-queue",
    type=FILE,
    metavar="FILE",
    help="File for rows that are not certified, lowest confidence first, at most 10,000. Replaces "
    "an existing file, but none with checks.",
)
@MAX_COST
@RESUME
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print the certificate as JSON.")
@click.pass_context
def label(context: click.Context, /, **given: Any) -> None:
    """Label a whole pile, and certify as much of it as the checked texts allow.

    With probability L, at most 1 - A of the rows with status "certified" are labelled wrong. Draw
    and check texts with: sentikit annotate FILE --size 300 --output checked.csv
    """
    from sentikit.extension import LabellingOptions, LoadingOptions, find_classifier

    from .certification import matched
    from .checked import read_checked
    from .pile import scan_pile

    _check_options(given)
    named = [*given["members"], *([given["agree_with"]] if given["agree_with"] else [])]
    # Reading the pile takes seconds, so a missing classifier is reported before.
    members = {x: find_classifier(x, LoadingOptions(given["device"])) for x in named}
    for member in members.values():
        member.check_keys()
    checked = read_checked(given["checked"]) if given["checked"] else None
    pile = scan_pile(given["source"], checked.answers if checked else ())
    if pile.duplicates:
        click.echo(f"{pile.duplicates:,} of {pile.rows:,} rows repeat an earlier text.", err=True)
    found = matched(checked, pile) if checked else None
    if not given["plan"]:
        # Those with a class in their names are checked once a member is loaded.
        _refuse_taken_columns(given, pile, ())
    with resumable(context, given["output"]) as stop_requested:
        options = LabellingOptions(
            max_cost=given["max_cost"], resume=given["resume"], stop_requested=stop_requested
        )
        _run(given, pile, found, options, members)


def _check_options(given: dict[str, Any]) -> None:
    output = given["output"]
    if given["plan"] and given["checked"]:
        raise InputError("--plan does not read checks. Leave --checked out.")
    if given["checked"]:
        _refuse_unwritable_ledger(given["checked"])
    if output is None and not given["plan"]:
        raise InputError("Name the table to write: --output OUT, such as labelled.csv.")
    given["source"].refuse_pipe()
    if output is not None:
        _kind_to_write(given, output)
        _refuse_overlap(given, output)
    if queue := given["review_queue"]:
        _kind_to_write(given, queue)
    if given["agree_with"] and given["checked"]:
        raise InputError(
            "--agree-with certifies agreement with an LLM, --checked accuracy as judged by people. "
            "Give one of them."
        )
    if len(set(given["members"])) < len(given["members"]):
        raise InputError("--with names a member twice. Name each once.")
    if given["fit"] and len(given["members"]) < 2:
        raise InputError("--fit fits a combination of members: give --with at least twice.")
    if given["agree_with"] in given["members"]:
        raise InputError(
            f"--agree-with {given['agree_with']} is a member too, and would agree with itself."
        )


def _refuse_unwritable_ledger(checked: Path) -> None:
    """Refuse a checked file whose looks cannot be recorded, before the pile is labelled."""
    try:
        refuse_overlap([("--checked", Path(f"{checked}.json"))], [])
    except InputError as error:
        raise InputError(f"--checked {checked} records each look beside it. {error}") from error


def _kind_to_write(given: dict[str, Any], output: Path) -> str:
    source: InputFile = given["source"]
    return written_kind(output, source.file, source.kind)


def _certificate_of(output: Path) -> Path:
    return output.with_suffix(".certificate.json")


def _refuse_overlap(given: dict[str, Any], output: Path) -> None:
    """Refuse to overwrite what is read, including the record of the draw and runs."""
    written = [
        ("--output", output),
        ("--certificate", given["certificate"] or _certificate_of(output)),
        ("--review-queue", given["review_queue"]),
    ]
    checked, models = given["checked"], [*given["members"], given["agree_with"]]
    read = [*given["source"].paths, checked, checked and f"{checked}.json", given["fit"]]
    refuse_overlap(written, [*read, *(name for name in models if name and Path(name).is_file())])


def _refuse_taken_columns(given: dict[str, Any], pile: Pile, classes: tuple[str, ...]) -> None:
    """Refuse a pile that has one of the added columns, before anything is paid."""
    from sentikit.extension import AddedColumns, refuse_taken

    from .tables import CONFIDENCE, PILE_ROW, STATUS

    queue, added = given["review_queue"], {CONFIDENCE, STATUS}
    for path in filter(None, (given["output"], queue)):
        nested = _kind_to_write(given, path) == "jsonl"
        added.update(AddedColumns(classes).names(nested))
    with pile.source.open() as rows:
        refuse_taken(rows.columns, [*added, *([PILE_ROW] if queue else [])])


def _run(
    given: dict[str, Any],
    pile: Pile,
    found: Matched | None,
    options: LabellingOptions,
    classifiers: Mapping[str, FoundClassifier],
) -> None:
    """Load the members, label the pile and certify what can be."""
    import numpy as np

    from .certification import (
        Labelling,
        certifying_look,
        describe_need,
        describe_task,
        matched,
        refuse_spent_labels,
    )
    from .checked import read_checked
    from .combination import combine, combined, fitted
    from .pile_job import PileJob

    named = given["agree_with"]
    with working_on("Loading the classifiers"):
        members = {name: classifiers[name].load() for name in given["members"]}
        llm = {} if named is None else {named: classifiers[named].load()}
    first = next(iter(members.values()))
    scheme = first.scheme
    if not given["plan"]:
        _refuse_taken_columns(given, pile, first.labels)
    fitted_on = read_checked(given["fit"], scheme) if given["fit"] else None
    if fitted_on is not None:
        refuse_spent_labels(fitted_on, found)
    labelling, looks = Labelling(members, fitted_on), 1
    with PileJob(pile.source, pile.rows, pile.fingerprint, members | llm, options) as job:
        rule: Combination = combine
        if fitted_on is not None:
            rule = fitted(job, list(members), [c for c in fitted_on.checks() if c.label])
        if found is not None:
            found = matched(found.file.in_classes(scheme), pile)
            look = certifying_look(found, pile, labelling, given["accuracy"], given["level"])
            looks = found.file.planned_looks(look, given["looks"])
            rows = np.unique(found.rows)
            predicted = combined([job.ask(name, rows).labels for name in members], rule)
            truth = found.truth(predicted.classes)
            # Recorded before anything is shown; an outage up to here does not use up a look.
            found.file.record_look(look, looks)
            own, target = predicted.labels[found.rows], given["accuracy"]
            click.echo(describe_task(own, truth, target), err=True)
            level = 1 - (1 - given["level"]) / looks
            sure, right = predicted.confidence[found.rows], own == truth
            with working_on("Forecasting"):
                need = describe_need(sure, right, pile.rows, target, level)
            click.echo(need, err=True)
        labels = combined([job.ask(name).labels for name in members], rule)
        if given["plan"]:
            _plan(given, labels)
        elif named is not None:
            _agree(given, pile, job, labels, llm[named])
        else:
            _certify(given, pile, job, labels, labelling, found, looks)


def _plan(given: dict[str, Any], labels: Labels) -> None:
    from .certification import plan

    guess, targets = given["guessed_accuracy"], sorted({0.85, 0.9, 0.95, given["accuracy"]})
    rows = plan(labels.confidence, guess, targets, given["level"])
    if given["as_json"]:
        click.echo(json.dumps({"guessed_accuracy": guess, "plan": rows}))
        return
    click.echo(
        f"Share that is certified on average at level {given['level']:g}, if {guess:.0%} of all "
        "labels are right:"
    )
    click.echo("checks  " + "  ".join(f"accuracy {t:g}" for t in targets))
    for row in rows:
        cells = (f"{row[f'{t:g}']:.1%}".rjust(len(f"accuracy {t:g}")) for t in targets)
        click.echo(f"{row['checks']:>6}  " + "  ".join(cells))
    click.echo("The forecast depends strongly on that share: try --guessed-accuracy.", err=True)


def _certify(
    given: dict[str, Any],
    pile: Pile,
    job: PileJob,
    labels: Labels,
    labelling: Labelling,
    found: Matched | None,
    looks: int,
) -> None:
    import numpy as np

    from .certification import certified
    from .tables import write_labelled, write_queue

    output = given["output"]
    certificate, record = None, None
    if found is not None:
        with working_on("Certifying"):
            certificate, record = certified(
                pile, job, labels, labelling, found, given["accuracy"], given["level"], looks
            )
    threshold = np.inf if certificate is None else certificate.threshold
    accepted = labels.confidence >= threshold
    if record is None or given["certificate"]:
        _certificate_of(output).unlink(missing_ok=True)
    write_labelled(pile, output, labels, accepted)
    if queue := given["review_queue"]:
        count = write_queue(pile, queue, labels, accepted)
        click.echo(f"Review queue: {queue} ({count:,} rows)", err=True)
    click.echo(f"Labelled: {output}{_paid(job.paid)}", err=True)
    if record is None:
        click.echo(
            "Nothing is certified: nobody has checked any text. Next: sentikit annotate "
            f"{pile.source.typed} --size 300 --output checked.csv",
            err=True,
        )
        return
    _show(given, record)
    if not given["as_json"]:
        for rate, share in record["share_if_the_checker_errs"].items():
            click.echo(f"If the checker errs on {float(rate):.0%} of the texts: {share:.1%}.")


def _agree(
    given: dict[str, Any], pile: Pile, job: PileJob, labels: Labels, llm: Classifier
) -> None:
    from sentikit.extension import usd_text

    from .certification import agreed
    from .tables import write_labelled

    output, members, asked = given["output"], given["members"], (given["agree_with"], llm)
    numbers = (given["sample"], given["agreement"], given["level"], given["seed"])
    labels, kept, record = agreed(pile, job, labels, members, asked, *numbers)
    if given["certificate"]:
        _certificate_of(output).unlink(missing_ok=True)
    write_labelled(pile, output, labels, kept, ("asked", "kept"))
    click.echo(f"Labelled: {output}", err=True)
    _show(given, record)
    paid, alone = record["savings"]["paid_usd"], record["savings"]["llm_alone_usd"]
    if paid is not None and alone and not given["as_json"]:
        click.echo(f"Paid ${usd_text(paid)}; the LLM alone would cost about ${usd_text(alone)}.")


def _show(given: dict[str, Any], record: dict[str, Any]) -> None:
    """Write and print a certificate."""
    from sentikit.extension import write_json

    path = given["certificate"] or _certificate_of(given["output"])
    write_json(path, record | {"output": str(given["output"])})
    click.echo(f"Certificate: {path}", err=True)
    click.echo(json.dumps(record, ensure_ascii=False) if given["as_json"] else record["sentence"])


def _paid(paid: float | None) -> str:
    from sentikit.extension import usd_text

    if not paid:
        return "" if paid is not None else " (paid an unknown amount)"
    return f" (paid ${usd_text(paid)})"
