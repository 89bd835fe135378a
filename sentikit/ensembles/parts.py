"""Recipes of the kinds `cascade` and `vote`: checked, and their members found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as FilePath

from pydantic import BaseModel

from sentikit.components import Path, Problem, refuse, validate
from sentikit.datasets.opening import check_dataset
from sentikit.ensembles.recipe import CascadeRecipe, VoteRecipe
from sentikit.errors import InputError
from sentikit.recipe.resolving import ResolvedRecipe, kind_of, refuse_other_kind, resolve_recipe
from sentikit.registry import Registry
from sentikit.runs.folder import FINISHED, RunFolder

_TEAMS: dict[str, type[BaseModel]] = {"cascade": CascadeRecipe, "vote": VoteRecipe}


def check_team(recipe: ResolvedRecipe, registry: Registry) -> list[Problem]:
    """Return all that is wrong with a recipe of kind cascade or vote."""
    problems = validate(_TEAMS[kind_of(recipe)], recipe.values)[1]
    dataset = recipe.values.get("dataset")
    if isinstance(dataset, dict):
        problems += check_dataset(registry, dataset, ("dataset",))[1]
    for path, member in _members(recipe):
        problems += _check_member(path, member, registry)
    return problems


def cascade_settings(recipe: ResolvedRecipe, registry: Registry) -> CascadeRecipe:
    """Return the settings of a cascade's recipe.

    Raises:
        InputError: anything wrong with it; all problems at once, each with its place.
    """
    refuse_other_kind(recipe, "cascade")
    refuse(check_team(recipe, registry), recipe.describe)
    return CascadeRecipe.model_validate(recipe.values)


def vote_settings(recipe: ResolvedRecipe, registry: Registry) -> VoteRecipe:
    """Return the settings of a vote's recipe.

    Raises:
        InputError: anything wrong with it; all problems at once, each with its place.
    """
    refuse_other_kind(recipe, "vote")
    refuse(check_team(recipe, registry), recipe.describe)
    return VoteRecipe.model_validate(recipe.values)


def member_path(member: str, runs: FilePath, registry: Registry) -> str:
    """Return the run or file that a member means; a recipe means its run.

    Raises:
        InputError: the recipe has no finished run; says how to make one.
    """
    if is_recorded(member):
        return member
    recipe = resolve_recipe(member, registry=registry)
    path = runs / recipe.name
    if RunFolder(path).status == FINISHED:
        return str(path)
    kind = kind_of(recipe)
    raise InputError(
        f"The recipe {member!r} has no finished run at {path}. Make it first: sentikit {kind} "
        f"--recipe {member} --output {path}; or name another run in its place."
    )


def is_recorded(member: str) -> bool:
    """Say whether a member means a run or its file, not a recipe: it is a path, or lies there."""
    plain = member.removesuffix("#encoder")
    if plain.endswith((".yaml", ".yml")):
        return False
    return plain != member or "/" in plain or FilePath(plain).exists()


def _members(recipe: ResolvedRecipe) -> Iterator[tuple[Path, str]]:
    """Yield where each member stands, and its name."""
    section = recipe.values.get(kind_of(recipe))
    if not isinstance(section, dict):
        return
    for key in ("encoder", "llm"):
        if isinstance(section.get(key), str):
            yield (kind_of(recipe), key), section[key]
    listed = section.get("members")
    for number, member in enumerate(listed if isinstance(listed, list) else []):
        yield ("vote", "members", number), str(member)


def _check_member(path: Path, member: str, registry: Registry) -> list[Problem]:
    if is_recorded(member):
        return []
    try:
        kind = kind_of(resolve_recipe(member, registry=registry))
    except InputError as error:
        return [Problem(path, f"{error.message} Or give a run, as runs/{member}.")]
    if kind in _TEAMS:
        return [Problem(path, f"{member!r} is of kind {kind}; a member must be one classifier.")]
    return []
