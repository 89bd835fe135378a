"""``sentikit vote``."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentikit.cli.options import ENSEMBLE_OUTPUT, resolved_recipe
from sentikit.command_options import (
    MAX_COST,
    RESUME,
    SETTINGS,
    complete_classifier,
    complete_recipe,
)
from sentikit.errors import InputError
from sentikit.processes.launching import resumable

if TYPE_CHECKING:
    from sentikit.ensembles.vote import JudgedVote


@click.command(
    epilog="Example: sentikit vote runs/e12 runs/e11 runs/electra-large --output runs/vote"
)
@click.argument("runs", metavar="[RUN RUN...]", nargs=-1, shell_complete=complete_classifier)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    shell_complete=complete_recipe,
    help="Run a recipe of kind vote. Members that are recipes have their runs under runs/; an LLM "
    "without one is queried now.",
)
@SETTINGS
@click.option(
    "--ties",
    type=click.Choice(["first", "probability"]),
    default="first",
    show_default=True,
    help="Break ties by the first run, or by the highest mean probability.",
)
@MAX_COST
@RESUME
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@ENSEMBLE_OUTPUT
@click.pass_context
def vote(
    context: click.Context,
    runs: tuple[str, ...],
    recipe: str | None,
    settings: tuple[str, ...],
    ties: str,
    max_cost: float | None,
    resume: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Take the majority label of several runs; name the most reliable first.

    Each RUN is a run's folder, a results file, or PATH#encoder for the encoder's prediction
    recorded inside an augmented run or file. Invalid answers do not count.
    """
    from click.core import ParameterSource

    from sentikit.labelling.ensembles import recorded_recipe, run_vote
    from sentikit.labelling.rows import LabellingOptions
    from sentikit.registry import default_registry
    from sentikit.runs.folder import RunFolder, choose_run_folder

    if recipe is not None and runs:
        raise InputError("Give either runs or --recipe, not both.")
    if recipe is None and (settings or max_cost or resume):
        raise InputError("--set, --max-cost and --resume need --recipe.")
    if recipe is not None and context.get_parameter_source("ties") == ParameterSource.COMMANDLINE:
        raise InputError(f"--ties is for runs. With a recipe, use --set vote.ties={ties}.")
    if recipe is None and len(runs) < 2:
        raise InputError("A vote needs at least two runs, and three to be useful.")
    run = None
    if output is not None:
        resume = resume and bool(RunFolder(output).status)
        run = choose_run_folder(output, output.name, resume)
    registry = default_registry()
    if recipe is None:
        resolved = recorded_recipe("vote", runs, ties=ties)
    else:
        resolved = resolved_recipe(recipe, settings, registry)
    stopping = resumable(context, run.path if run else None) if recipe else nullcontext(bool)
    with stopping as stop_requested:
        options = LabellingOptions(max_cost, resume=resume, stop_requested=stop_requested)
        judged, run = run_vote(resolved, run, options, registry)
    if as_json:
        click.echo(json.dumps(judged.to_json(), indent=2))
    else:
        _print(judged)
    if run is not None:
        click.echo(f"Run: {run.path}", err=True)


def _print(judged: JudgedVote) -> None:
    from sentikit.terminal import print_sentence, print_table

    counted = (
        f"{judged.unanimous / judged.rows:.1%} of {judged.rows:,} texts unanimous, "
        f"{judged.tied:,} tied."
    )
    own = judged.scores.macro_f1
    if own is None:
        click.echo(f"No text has a gold label. {counted}")
        return
    columns = ["", "macro-F1", "95 % interval", "vote gains"]
    rows = [["vote", *own.score_cells(), ""]]
    for name, single in judged.scores.members.items():
        rows.append([name, *single.score_cells(), judged.scores.gains[name].gain_cell()])
    print_table("", columns, rows, columns[1:])
    click.echo()
    print_sentence(counted)
