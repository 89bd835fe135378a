"""``sentikit monitor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sentikit import InputError
from sentikit.extension import FILE, RATE

#: Exit code of an alarm.
ALARM = 3


@click.command(
    epilog="\b\nExamples:\n"
    "  sentikit monitor labelled.certificate.json --checked new-checks.csv\n"
    "  sentikit monitor labelled.certificate.json --pile next-month-labelled.csv"
)
@click.argument("certificate", type=FILE)
@click.option(
    "--checked",
    type=FILE,
    metavar="CHECKED.csv",
    help="Newly checked texts with predicted_label and confidence, as annotate draws them from a "
    "labelled table.",
)
@click.option(
    "--pile",
    type=FILE,
    metavar="LABELLED",
    help="A new labelled table to compare with the certified one, without checks.",
)
@click.option(
    "--level",
    type=RATE,
    default=0.95,
    show_default=True,
    metavar="L",
    help="Level L: the probability of ever raising a false alarm is below 1 - L.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def monitor(
    certificate: Path, checked: Path | None, pile: Path | None, level: float, as_json: bool
) -> None:
    """Detect when a certificate no longer holds; exit code 3 is an alarm.

    Each newly checked text that the certificate accepts adds to the evidence, once. The evidence is
    kept beside the certificate and may be looked at at any time.
    """
    from sentikit.extension import read_json

    if not checked and not pile:
        raise InputError("Give --checked CHECKED.csv, --pile LABELLED, or both.")
    beside = certificate.with_suffix(".certificate.json")
    if certificate.suffix != ".json" and beside.is_file():
        raise InputError(f"{certificate} is not a certificate. Did you mean {beside}?")
    record = read_json(certificate)
    if not isinstance(record, dict) or record.get("kind") != "accuracy":
        raise InputError(f"{certificate} is not a certificate of accuracy by sentikit label.")
    if record.get("threshold") is None:
        raise InputError(f"{certificate} certifies nothing, so there is nothing to monitor.")
    found: dict[str, Any] = {}
    if pile:
        found["drift"] = _drift(record, pile, as_json)
    if checked:
        found |= _evidence(certificate, record, checked, level, as_json)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    if found.get("alarm"):
        raise click.exceptions.Exit(ALARM)


def _drift(record: dict[str, Any], pile: Path, quiet: bool) -> list[dict[str, Any]]:
    from sentikit.extension import InputFile

    from .evidence import drift
    from .tables import read_labelled

    found = drift(record["reference"], read_labelled(InputFile(str(pile))))
    if not quiet:
        click.echo(f"{'compared':<14} {'effect':>7}  p")
        for one in found:
            click.echo(f"{one['of']:<14} {one['effect']:>7.3f}  {one['p']:.2g}")
        click.echo(
            "An effect of .1 is small, .3 is medium. Drift alone proves no errors: check some "
            "texts."
        )
    return found


def _evidence(
    certificate: Path, record: dict[str, Any], checked: Path, level: float, quiet: bool
) -> dict[str, Any]:
    from sentikit.extension import scheme_for_classes

    from .checked import read_checked
    from .evidence import watch

    scheme = scheme_for_classes(record["reference"]["classes"])
    found = watch(certificate, record, read_checked(checked, scheme), level)
    if not quiet:
        click.echo(
            f"{found['checked']} accepted texts checked, {found['wrong']} wrong "
            f"({found['new']} new); evidence {found['evidence']:.3g}, alarm at "
            f"{1 / (1 - level):.3g}."
        )
        if found["alarm"]:
            click.echo(
                f"ALARM: more than {1 - record['target']:.1%} of the accepted labels are wrong "
                f"(level {level:g}). Draw and check new texts, then certify again."
            )
    return found
