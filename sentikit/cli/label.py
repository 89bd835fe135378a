"""``sentikit label``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.amounts import FiniteRange
from sentikit.cli.options import DEVICE, MAX_COST, RESUME, resumable
from sentikit.cli.predict import _format_like
from sentikit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from sentikit.assurance.certified import Matched
    from sentikit.assurance.checked import CheckedFile
    from sentikit.assurance.pile import Labels, Pile, PileJob
    from sentikit.classifiers.classifier import Classifier
    from sentikit.labelling.job import LabellingOptions

RATE = FiniteRange(0, 1, min_open=True, max_open=True)


@click.command(
    epilog="\b\nExamples:\n"
    "  sentikit label reviews.csv --with runs/minilm --plan\n"
    "  sentikit label reviews.csv --with runs/minilm --checked checked.csv --output labelled.csv\n"
    "  sentikit label reviews.csv --with runs/minilm --agree-with runs/llm --output labelled.csv"
)
@click.argument("file", metavar="FILE")
@click.option(
    "--with",
    "members",
    metavar="X",
    multiple=True,
    required=True,
    help="A run, recipe, model or results file that labels; repeat it to combine several.",
)
@click.option(
    "--checked",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="CHECKED.csv",
    help="Texts of FILE that were drawn uniformly and labelled by people.",
)
@click.option("--accuracy", type=RATE, default=0.9, show_default=True, metavar="A")
@click.option(
    "--level",
    type=RATE,
    default=0.9,
    show_default=True,
    metavar="L",
    help="How sure the promise is.",
)
@click.option(
    "--looks",
    type=click.IntRange(min=1),
    metavar="K",
    help="Looks at CHECKED.csv that are planned; each gets an equal part of the risk. Default: 1.",
)
@click.option(
    "--plan", is_flag=True, help="Say how many checks certify which share; check nothing."
)
@click.option(
    "--guessed-accuracy",
    type=RATE,
    default=0.82,
    show_default=True,
    metavar="A",
    help="What --plan takes for the share of right labels.",
)
@click.option(
    "--agree-with", metavar="X", help="Keep the labels that agree with this LLM's; ask it the rest."
)
@click.option("--agreement", type=RATE, default=0.95, show_default=True, metavar="A")
@click.option(
    "--sample",
    type=click.IntRange(min=30),
    default=300,
    show_default=True,
    metavar="N",
    help="Texts that the LLM of --agree-with labels first.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of that sample.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT", help="The table."
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.json",
    help="Default: OUT with the ending .certificate.json.",
)
@click.option(
    "--review-queue",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Rows that are not certified, least sure first, 10,000 at most.",
)
@click.option(
    "--text-column",
    "text_columns",
    metavar="C",
    multiple=True,
    help="The column of the texts, if not a usual name; repeat to join several.",
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
    from sentikit.assurance.checked import read_checked
    from sentikit.assurance.pile import scan_pile
    from sentikit.datasets.tables import InputFile
    from sentikit.labelling.job import LabellingOptions

    _check_options(given)
    source = InputFile(given["file"], None, given["text_columns"])
    checked = read_checked(given["checked"]) if given["checked"] else None
    answers = checked.answers if checked else ()
    pile = scan_pile(source, {c.text for c in answers}, {c.id for c in answers if c.id})
    if pile.duplicates:
        click.echo(f"{pile.duplicates:,} of {pile.rows:,} rows repeat an earlier text.", err=True)
    found = _matched(checked, pile)
    with resumable(context, given["output"]) as stop_requested:
        options = LabellingOptions(
            max_cost=given["max_cost"], resume=given["resume"], stop_requested=stop_requested
        )
        _run(given, pile, found, options)


def _check_options(given: dict[str, Any]) -> None:
    output = given["output"]
    if output is None and not given["plan"]:
        raise InputError("--output OUT is needed: the table that is written, as labelled.csv.")
    if given["file"] == "-":
        raise InputError("A pile is read several times. Save it in a file and name it.")
    if not Path(given["file"]).is_file():
        raise InputError(f"{given['file']} does not exist. Check the path.")
    if output is not None:
        _format_like(output, given["file"], None)
        if output.exists() and output.samefile(given["file"]):
            raise InputError(f"--output {output} is the file to label. Choose another name.")
    if given["agree_with"] and given["checked"]:
        raise InputError(
            "--agree-with promises agreement with an LLM, --checked accuracy as people see it. "
            "Give one of them."
        )


def _matched(checked: CheckedFile | None, pile: Pile) -> Matched | None:
    from sentikit.assurance.certified import matched

    return matched(checked, pile) if checked else None


def _run(
    given: dict[str, Any], pile: Pile, found: Matched | None, options: LabellingOptions
) -> None:
    """Load the members, label the pile and certify what can be."""
    from sentikit.assurance.pile import PileJob
    from sentikit.labelling.loading import load

    members = {name: load(name, device=given["device"]) for name in given["members"]}
    if len(members) < len(given["members"]):
        raise InputError("--with names a member twice. Each is combined once.")
    named = given["agree_with"]
    if named in members:
        raise InputError(f"--agree-with {named} is a member too: it always agrees with itself.")
    llm = {} if named is None else {named: load(named, device=given["device"])}
    with PileJob(pile, members | llm, options) as job:
        if found is not None:
            found = _checked_first(given, job, members, found)
        labels = _labels(job, members)
        if given["plan"]:
            _plan(given, labels)
        elif named is not None:
            _agree(given, job, labels, llm[named])
        else:
            _certify(given, job, labels, members, found)


def _labels(
    job: PileJob, members: Mapping[str, Classifier], only: NDArray[np.int64] | None = None
) -> Labels:
    from sentikit.assurance.pile import combined

    return combined([job.ask(name, only) for name in members])


def _checked_first(
    given: dict[str, Any], job: PileJob, members: Mapping[str, Classifier], found: Matched
) -> Matched:
    """Label the checked texts before all others, and say what they tell of the target."""
    import numpy as np

    from sentikit.assurance.certified import describe_task

    found = found.folded(next(iter(members.values())).scheme)
    said = _labels(job, members, np.unique(found.rows))
    truth = found.truth(said.classes)
    click.echo(describe_task(said.labels[found.rows], truth, given["accuracy"]), err=True)
    return found


def _plan(given: dict[str, Any], labels: Labels) -> None:
    from sentikit.assurance.certified import plan

    targets = sorted({0.85, 0.9, 0.95, given["accuracy"]})
    rows = plan(labels.confidence, given["guessed_accuracy"], targets, given["level"])
    if given["as_json"]:
        click.echo(json.dumps({"guessed_accuracy": given["guessed_accuracy"], "plan": rows}))
        return
    click.echo(
        f"Share that is certified on average at level {given['level']:g}, if "
        f"{given['guessed_accuracy']:.0%} of the labels are right:"
    )
    click.echo("checks  " + "  ".join(f"accuracy {t:g}" for t in targets))
    for row in rows:
        cells = (f"{row[f'{t:g}']:.1%}".rjust(len(f"accuracy {t:g}")) for t in targets)
        click.echo(f"{row['checks']:>6}  " + "  ".join(cells))


def _certify(
    given: dict[str, Any],
    job: PileJob,
    labels: Labels,
    members: Mapping[str, Classifier],
    found: Matched | None,
) -> None:
    from sentikit.assurance.certified import (
        Promise,
        certificate_record,
        certified,
        fingerprint,
        statuses,
    )
    from sentikit.assurance.pile import write_labelled, write_queue
    from sentikit.files import write_json

    output, pile = given["output"], job.pile
    certificate, record = None, None
    if found is not None:
        identity = {
            "pile": pile.fingerprint,
            "classifier": fingerprint({name: c.describe() for name, c in members.items()}),
        }
        promise = Promise(given["accuracy"], given["level"], given["looks"])
        certificate, errs = certified(labels, found, promise, identity)
        record = certificate_record(certificate, job, labels, members, found, errs)
    status = statuses(labels, certificate)
    write_labelled(pile.source, output, _format_like(output, given["file"], None), labels, status)
    if given["review_queue"]:
        queue = given["review_queue"]
        kind = _format_like(queue, given["file"], None)
        count = write_queue(pile.source, queue, kind, labels, status)
        click.echo(f"Review queue: {queue} ({count:,} rows)", err=True)
    click.echo(f"Labelled: {output}{_paid(job.paid)}", err=True)
    if record is None or certificate is None:
        click.echo(
            "Nothing is certified: nobody has checked any text. Next: sentikit annotate "
            f"{given['file']} --size 300 --output checked.csv",
            err=True,
        )
        return
    path = given["certificate"] or output.with_suffix(".certificate.json")
    write_json(path, record | {"output": str(output)})
    click.echo(f"Certificate: {path}", err=True)
    click.echo(json.dumps(record, ensure_ascii=False) if given["as_json"] else record["sentence"])
    if not given["as_json"]:
        for rate, share in record["share_if_the_checker_errs"].items():
            click.echo(f"If the checker errs on {float(rate):.0%} of the texts: {share:.1%}.")


def _agree(given: dict[str, Any], job: PileJob, labels: Labels, llm: Classifier) -> None:
    from sentikit.amounts import usd_text
    from sentikit.assurance.certified import Promise, agree, agreement_record
    from sentikit.assurance.pile import write_labelled
    from sentikit.files import write_json

    output, pile, named = given["output"], job.pile, given["agree_with"]
    promise = Promise(given["agreement"], given["level"])
    done = agree(job, labels, named, llm, given["sample"], promise, given["seed"])
    kind = _format_like(output, given["file"], None)
    write_labelled(pile.source, output, kind, done.labels, done.status)
    record = agreement_record(done, pile, named, list(given["members"]))
    path = given["certificate"] or output.with_suffix(".certificate.json")
    write_json(path, record | {"output": str(output)})
    click.echo(f"Labelled: {output}\nCertificate: {path}", err=True)
    if given["as_json"]:
        click.echo(json.dumps(record, ensure_ascii=False))
        return
    click.echo(record["sentence"])
    if done.paid is not None and done.llm_alone:
        click.echo(
            f"Paid ${usd_text(done.paid)}; the LLM alone would cost about "
            f"${usd_text(done.llm_alone)}."
        )


def _paid(paid: float | None) -> str:
    from sentikit.amounts import usd_text

    if not paid:
        return "" if paid is not None else " (paid an unknown amount)"
    return f" (paid ${usd_text(paid)})"
