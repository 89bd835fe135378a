"""``sentikit cascade``."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli.options import (
    ENSEMBLE_OUTPUT,
    PLOTS_FOLDER,
    REPORT,
    Report,
    check_plots,
    resolved_recipe,
    write_charts,
)
from sentikit.command_options import (
    MAX_COST,
    RESUME,
    SETTINGS,
    FiniteRange,
    complete_classifier,
    complete_recipe,
)
from sentikit.errors import InputError
from sentikit.processes.launching import resumable
from sentikit.terminal import print_sentence, print_table, print_text, usd_text

if TYPE_CHECKING:
    from sentikit.ensembles.cascade import JudgedCascade
    from sentikit.ensembles.thresholds import Aim
    from sentikit.recipe.resolving import ResolvedRecipe


@click.command(
    epilog="\b\nExample: sentikit cascade runs/electra-base runs/b3 --threshold 0.8\n"
    "         sentikit cascade runs/base-test runs/b3-test --tune runs/base-val runs/b3-val\n"
    "         sentikit cascade augmented.csv#encoder zero-shot.csv --goal calls --target 0.2\n"
    "         sentikit cascade --recipe cascade-minilm-local --max-cost 1"
)
@click.argument(
    "runs", metavar="[ENCODER_RUN LLM_RUN]", nargs=-1, shell_complete=complete_classifier
)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    shell_complete=complete_recipe,
    help="Run a recipe of kind cascade; missing answers are requested now.",
)
@SETTINGS
@click.option(
    "--threshold",
    type=FiniteRange(0, 1),
    metavar="T",
    help="The encoder answers if its top probability is at least this.",
)
@click.option(
    "--tune",
    nargs=2,
    metavar="ENCODER_RUN LLM_RUN",
    help="Choose the threshold on these runs, for example of the validation split.",
)
@click.option(
    "--goal",
    type=click.Choice(["f1", "calls", "cost"]),
    default="f1",
    show_default=True,
    help="Choose the best macro-F1, or the best within --target.",
)
@click.option(
    "--target",
    type=FiniteRange(min=0, min_open=True),
    metavar="X",
    help="calls: maximum share of texts sent to the LLM; cost: maximum USD for 1,000 texts.",
)
@click.option(
    "--llm-cost",
    type=FiniteRange(min=0),
    metavar="USD",
    help="The LLM's cost for 1,000 texts, if its run does not record it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result, curve included, as JSON.")
@REPORT
@PLOTS_FOLDER
@MAX_COST
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="With --recipe: N texts.")
@RESUME
@ENSEMBLE_OUTPUT
@click.pass_context
def cascade(
    context: click.Context,
    runs: tuple[str, ...],
    recipe: str | None,
    settings: tuple[str, ...],
    threshold: float | None,
    tune: tuple[str, str] | None,
    goal: str,
    target: float | None,
    llm_cost: float | None,
    as_json: bool,
    report: Report | None,
    plots: Path | None,
    max_cost: float | None,
    limit: int | None,
    resume: bool,
    output: Path | None,
) -> None:
    """Combine classifiers: each answers where it is confident, the last one elsewhere.

    Each RUN is a run's folder, a results file, or PATH#encoder for the encoder's prediction
    recorded inside an augmented run or file. With neither --threshold nor --tune the threshold is
    cross-fitted on these runs. With --recipe the LLM is asked about the texts that the encoder is
    not sure of, and about no others.
    """
    from sentikit.ensembles.thresholds import Aim
    from sentikit.labelling.ensembles import run_cascade
    from sentikit.labelling.rows import LabellingOptions
    from sentikit.registry import default_registry
    from sentikit.runs.folder import choose_run_folder

    if threshold is not None and (tune or goal != "f1" or target is not None):
        raise InputError("Give either --threshold, or --tune, --goal and --target to choose one.")
    aim = Aim("calls" if goal == "calls" else "cost" if goal == "cost" else "f1", target)
    if aim.problem:
        raise InputError(f"--goal, --target: {aim.problem}")
    registry = default_registry()
    if recipe is None:
        if settings or max_cost or limit or resume:
            raise InputError("--set, --max-cost, --limit and --resume go with --recipe alone.")
        check_plots(plots)
        resolved = _recorded(runs, tune, threshold, aim, llm_cost)
        run = choose_run_folder(output, output.name, False) if output else None
    else:
        if runs or tune or threshold is not None or target or report or plots or llm_cost:
            raise InputError(
                "With --recipe, set the cascade's keys with --set, such as --set "
                "cascade.thresholds=[0.9]; for a report or plots, compare its run afterwards."
            )
        resolved = resolved_recipe(recipe, settings, registry)
        run = choose_run_folder(output, resolved.name, resume)
    stopping = resumable(context, run.path if run else None) if recipe else nullcontext(bool)
    with stopping as stop_requested:
        options = LabellingOptions(
            max_cost, resume=resume, stop_requested=stop_requested, limit=limit
        )
        judged, run = run_cascade(resolved, run, options, registry)
    if as_json:
        click.echo(json.dumps(judged.to_json(), indent=2))
    else:
        _print(judged)
    for note in judged.notes:
        print_text(f"Note: {note}", err=True)
    if run is not None:
        click.echo(f"Run: {run.path}", err=True)
    if report or plots:
        from sentikit.ensembles.cascade import compare_cascade

        write_charts(compare_cascade(judged, llm_cost), report, plots, judged)


def _recorded(
    runs: tuple[str, ...],
    tune: tuple[str, str] | None,
    threshold: float | None,
    aim: Aim,
    llm_cost: float | None,
) -> ResolvedRecipe:
    from sentikit.labelling.ensembles import recorded_recipe

    if len(runs) != 2:
        raise InputError(
            "A cascade needs two runs, the encoder's and the LLM's (sentikit cascade ENCODER_RUN "
            "LLM_RUN), or a recipe (sentikit cascade --recipe NAME)."
        )
    chosen: dict[str, Any] = {"thresholds": [threshold]}
    if threshold is None:
        chosen = {"tune": {"goal": aim.goal, "target": aim.target}}
    if tune:
        chosen["tune"] |= dict(zip(("encoder", "llm"), tune, strict=True))
    if llm_cost is not None:
        chosen["llm_cost"] = llm_cost
    return recorded_recipe("cascade", runs, **chosen)


def _print(judged: JudgedCascade) -> None:
    from sentikit.comparison.alignment import display_names

    title = " → ".join(display_names(judged.ensemble.members))
    if judged.scores.macro_f1 is None:
        click.echo(f"{title}: {judged.calls:,} of {judged.rows:,} texts go to the LLM")
        return
    columns = ["", "macro-F1", "95 % interval", "cascade gains", "calls", "USD / 1,000"]
    # The last column, cost, is left out if unknown.
    columns = columns if judged.cost is not None else columns[:-1]
    own = [
        "cascade",
        *judged.scores.macro_f1.score_cells(),
        "",
        f"{judged.share:.1%}",
        _usd(judged.cost),
    ]
    rows = [own]
    ends = (("0.0%", _usd(0.0)), ("100.0%", _usd(judged.llm_cost)))
    for end, (name, single) in zip(ends, judged.scores.members.items(), strict=False):
        rows.append([name, *single.score_cells(), judged.scores.gains[name].gain_cell(), *end])
    print_table(title, columns, [row[: len(columns)] for row in rows], columns[1:])
    click.echo()
    print_sentence(f"Threshold {_threshold(judged.threshold)}. {judged.explanation}")
    if judged.curve:
        _print_curve(judged)


def _print_curve(judged: JudgedCascade) -> None:
    wanted = [i / 10 for i in range(11)]
    shown = [min(judged.curve, key=lambda p: abs(p.share - share)) for share in wanted]
    columns = ["calls", "threshold", "macro-F1", "95 % interval"]
    columns += [] if judged.cost is None else ["USD / 1,000"]
    rows = [
        [
            f"{point.share:.1%}",
            _threshold(point.threshold),
            f"{point.macro_f1:.4f}",
            f"[{point.low:.4f}, {point.high:.4f}]",
            _usd(point.cost),
        ][: len(columns)]
        for point in dict.fromkeys(shown)
    ]
    print_table("At other thresholds, on the same texts", columns, rows, columns)
    if judged.best is not None:
        best = judged.best
        print_sentence(
            f"Best in hindsight: macro-F1 {best.macro_f1:.4f} at threshold "
            f"{_threshold(best.threshold)} with {best.share:.1%} of the calls; expect slightly "
            "less on new texts."
        )


def _threshold(value: float) -> str:
    return "above 1" if value > 1 else f"{value:.4g}"


def _usd(cost: float | None) -> str:
    return "unknown" if cost is None else usd_text(cost)
