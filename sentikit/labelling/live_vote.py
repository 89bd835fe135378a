"""Votes that are held now: an LLM's recipe that has no run yet is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sentikit.ensembles.parts import is_recorded, member_path
from sentikit.ensembles.recipe import VoteRecipe
from sentikit.errors import InputError
from sentikit.labelling.prompting import PromptOptions, prompt
from sentikit.labelling.run_writer import spent_usd
from sentikit.llm.recipe import PromptParts, prompt_parts
from sentikit.recipe.resolving import kind_of, resolve_recipe
from sentikit.registry import Registry
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import RunFolder


def member_runs(
    settings: VoteRecipe, runs: Path, options: PromptOptions, registry: Registry
) -> tuple[str, ...]:
    """Return the run of each member; LLMs' recipes without one leave theirs under `runs`.

    Args:
        settings: of the vote.
        runs: where a recipe's run is looked for.
        options: the budget of all LLMs asked now, together, and whether to go on with
            unfinished runs.
        registry: where to look for parts.

    Raises:
        RequestsInterrupted: the user asked to stop; the vote can be resumed.
        InputError: a member cannot be asked, or has an unfinished run; nothing was asked.
        SentikitError: an LLM failed; the vote can be resumed.
    """
    asked: dict[str, PromptParts] = {}
    found: dict[str, str] = {}
    for member in settings.vote.members:
        parts = _parts_to_ask(member, runs, options.resume, registry)
        if parts is None:
            found[member] = member_path(member, runs, registry)
        else:
            asked[member] = parts
    left = options.max_cost
    for member, parts in asked.items():
        path = runs / parts.recipe.name
        run = RunFolder(path)
        prompt(parts, path, replace(options, max_cost=left, resume=bool(run.status)), registry)
        if left is not None:
            left = max(1e-9, left - spent_usd(run))
        found[member] = str(path)
    return tuple(found[member] for member in settings.vote.members)


def _parts_to_ask(member: str, runs: Path, resume: bool, registry: Registry) -> PromptParts | None:
    """Return the parts of a member that must be asked, or None where it need not or cannot be."""
    if is_recorded(member):
        return None
    recipe = resolve_recipe(member, registry=registry)
    status = RunFolder(runs / recipe.name).status
    if kind_of(recipe) != "prompt" or status == run_folder.FINISHED:
        return None
    if status and not resume:
        raise InputError(
            f"{runs / recipe.name} is not finished. Go on with it by --resume, or move it away."
        )
    return prompt_parts(recipe, registry)
