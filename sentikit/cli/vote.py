"""``sentikit vote``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentikit.cli.options import RUNS, SETTINGS
from sentikit.errors import InputError

if TYPE_CHECKING:
    from sentikit.teams.judged import JudgedVote


@click.command(
    epilog="Example: sentikit vote runs/e12 runs/e11 runs/electra-large --output runs/vote"
)
@click.argument("runs", metavar="[RUN RUN...]", nargs=-1)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="Let the members of a recipe of kind vote vote; a recipe's run is the one under runs/.",
)
@SETTINGS
@click.option(
    "--ties",
    type=click.Choice(["first", "probability"]),
    default="first",
    show_default=True,
    help="Among tied labels: the first named run's, or the one with the highest mean probability.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="DIR", help="Leave a run in this folder."
)
def vote(
    runs: tuple[str, ...],
    recipe: str | None,
    settings: tuple[str, ...],
    ties: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """Let recorded runs vote on every text, the most trusted named first.

    Each RUN is a run's folder, a results file, or PATH#encoder for the encoder's opinion recorded
    inside an augmented run or file. An invalid answer is no vote.
    """
    import json

    from sentikit.runs.folder import choose_run_folder
    from sentikit.runs.reading import read_run
    from sentikit.teams.judging import judge_vote
    from sentikit.teams.members import gather
    from sentikit.teams.writing import write_vote

    if recipe is not None:
        if runs:
            raise InputError("Give either runs or --recipe, not both.")
        runs, ties = _members(recipe, settings)
    elif settings:
        raise InputError("--set changes a recipe: it goes with --recipe alone.")
    if len(runs) < 2:
        raise InputError("A vote needs two runs at least, and three to be of use.")
    run = choose_run_folder(output, output.name, False, RUNS) if output else None
    team = gather([read_run(name) for name in runs])
    judged = judge_vote(team, "first" if ties == "first" else "probability")
    if run is not None:
        with run.locked():
            write_vote(run, team, judged)
    if as_json:
        click.echo(json.dumps(judged.to_json(), indent=2))
    else:
        _print(judged)
    if run is not None:
        click.echo(f"Run: {run.path}", err=True)


def _members(recipe: str, settings: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return the runs that a recipe names, and how it breaks ties."""
    from sentikit.recipe.resolving import resolve_recipe
    from sentikit.registry import default_registry
    from sentikit.teams.live import member_path, vote_settings

    registry = default_registry()
    found = vote_settings(resolve_recipe(recipe, settings, registry), registry).vote
    return tuple(member_path(member, RUNS, registry) for member in found.members), found.ties


def _print(judged: JudgedVote) -> None:
    from sentikit.cli.tables import gained, print_table, scored

    counted = (
        f"{judged.unanimous / judged.rows:.1%} of {judged.rows:,} texts unanimous, "
        f"{judged.tied:,} tied."
    )
    own = judged.worth.macro_f1
    if own is None:
        click.echo(f"No text has a gold label. {counted}")
        return
    columns = ["", "macro-F1", "95 % interval", "vote gains"]
    rows = [["vote", *scored(own), ""]]
    for name, single in judged.worth.members.items():
        rows.append([name, *scored(single), gained(judged.worth.gains[name])])
    print_table("", columns, rows, columns[1:])
    click.echo(counted)
