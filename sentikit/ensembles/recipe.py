"""Recipes of the kinds `cascade` and `vote`: their schema, check and members."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path as FilePath
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, model_validator

from sentikit.classifiers.vote import Ties
from sentikit.components import ComponentSettings, Problem, Section, refuse, validate
from sentikit.datasets.opening import check_dataset
from sentikit.ensembles.thresholds import Aim, Goal
from sentikit.errors import InputError
from sentikit.recipe.resolving import ResolvedRecipe, kind_of, refuse_other_kind, resolve_recipe
from sentikit.registry import Registry
from sentikit.runs.folder import FINISHED, RunFolder


class Tuning(ComponentSettings):
    """The choice of a cascade's threshold on validation."""

    goal: Goal = Field(
        "f1", description="the best macro-F1, or the best one within a share of calls or a cost"
    )
    target: float | None = Field(
        None, gt=0, description="calls: share of texts sent to the LLM; cost: USD for 1,000 texts"
    )
    encoder: str | None = Field(None, description="the encoder's run on validation, if recorded")
    llm: str | None = Field(None, description="the LLM's run on validation, if recorded")

    @model_validator(mode="after")
    def _target_fits_goal(self) -> Tuning:
        if self.aim.problem:
            raise ValueError(self.aim.problem)
        if (self.encoder is None) != (self.llm is None):
            raise ValueError("tuning needs both runs, the encoder's and the LLM's, or neither")
        return self

    @property
    def aim(self) -> Aim:
        return Aim(self.goal, self.target)

    @property
    def runs(self) -> tuple[str, str] | None:
        """The recorded runs on validation, or None."""
        return (self.encoder, self.llm) if self.encoder and self.llm else None


class CascadeSettings(ComponentSettings):
    """Each member answers if its confidence reaches its threshold; the last answers the rest."""

    members: list[str] = Field(
        min_length=2,
        description="runs, results files, recipes, models or other classifiers, tried in order",
    )
    thresholds: list[Annotated[float, Field(ge=0, le=1)]] | None = Field(
        None, description="for each member but the last, the lowest confidence at which it answers"
    )
    tune: Tuning | None = Field(None, description="how to choose the threshold on validation")
    llm_cost: float | None = Field(
        None, ge=0, description="USD of the last member for 1,000 texts, if its run has no costs"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> CascadeSettings:
        if (self.thresholds is None) == (self.tune is None):
            raise ValueError("give either thresholds or tune")
        if self.thresholds is not None and len(self.thresholds) != len(self.stages) - 1:
            raise ValueError(
                f"{len(self.stages)} members need {len(self.stages) - 1} thresholds, one for each "
                f"but the last; {len(self.thresholds)} given"
            )
        if self.tune is not None and len(self.stages) > 2:
            raise ValueError("tune works only with two members; give thresholds")
        return self

    @property
    def stages(self) -> dict[str, str]:
        return member_names(self.members)


class CascadeRecipe(ComponentSettings):
    """Classifiers that answer where they are confident: ``kind: cascade``."""

    kind: Literal["cascade"] = "cascade"
    description: str = Field("", description="one line for `sentikit recipes list`")
    dataset: Section | None = Field(None, description="instead of the members' own dataset")
    split: str = Field("test", description="the split to label")
    cascade: CascadeSettings


class VoteSettings(ComponentSettings):
    """The label that most members give."""

    members: list[str] = Field(
        min_length=2, description="runs, results files or names of recipes, most reliable first"
    )
    ties: Ties = Field(
        "first", description="break ties by the first member, or by the highest mean probability"
    )


class VoteRecipe(ComponentSettings):
    """Several classifiers vote: ``kind: vote``."""

    kind: Literal["vote"] = "vote"
    description: str = Field("", description="one line for `sentikit recipes list`")
    vote: VoteSettings


def member_names(members: Sequence[str]) -> dict[str, str]:
    """Return members by unique short names: the last part of a path, numbered if repeated."""
    named: dict[str, str] = {}
    for member in members:
        plain, _, inside = member.partition("#")
        path = FilePath(plain)
        known_ending = path.suffix in (".yaml", ".yml", ".csv", ".tsv", ".jsonl", ".parquet")
        short = path.stem if known_ending else path.name
        short = f"{short}#{inside}" if inside else short
        numbered = chain([short], (f"{short}-{number}" for number in count(2)))
        named[next(name for name in numbered if name not in named)] = member
    return named


_ENSEMBLES: dict[str, type[BaseModel]] = {"cascade": CascadeRecipe, "vote": VoteRecipe}


def check_ensemble(recipe: ResolvedRecipe, registry: Registry) -> list[Problem]:
    """Return every problem of a recipe of kind cascade or vote."""
    kind = kind_of(recipe)
    problems = validate(_ENSEMBLES[kind], recipe.values)[1]
    dataset, section = (recipe.values.get(name) for name in ("dataset", kind))
    if isinstance(dataset, dict):
        problems += check_dataset(registry, dataset, ("dataset",))[1]
    members = section.get("members") if isinstance(section, dict) else None
    for number, member in enumerate(members if isinstance(members, list) else []):
        try:
            member_recipe(str(member), registry)
        except InputError as error:
            message = f"{error.message} Or give a run, such as runs/{member}."
            problems.append(Problem((kind, "members", number), message))
    return problems


T = TypeVar("T", CascadeRecipe, VoteRecipe)


def ensemble_settings(recipe: ResolvedRecipe, registry: Registry, schema: type[T]) -> T:
    refuse_other_kind(recipe, schema.model_fields["kind"].default)
    refuse(check_ensemble(recipe, registry), recipe.describe)
    return schema.model_validate(recipe.values)


def is_recorded(member: str) -> bool:
    """Return whether a member is a run or results file: a path, or an existing file."""
    plain = member.removesuffix("#encoder")
    if plain.endswith((".yaml", ".yml")):
        return False
    return plain != member or "/" in plain or FilePath(plain).exists()


def member_recipe(member: str, registry: Registry) -> ResolvedRecipe | None:
    """Return the recipe that a member names; None for a run, a file or a plugin's classifier."""
    if is_recorded(member) or member in registry.names("register_classifiers"):
        return None
    return resolve_recipe(member, registry=registry)


def member_path(member: str, runs: FilePath, registry: Registry) -> str:
    """Return the run or file of a member; for a recipe, its finished run."""
    recipe = member_recipe(member, registry)
    return member if recipe is None else finished_run(recipe, member, runs)


def finished_run(recipe: ResolvedRecipe, name: str, runs: FilePath) -> str:
    """Return the finished run of a recipe; errors call it `name`."""
    path = runs / recipe.name
    if RunFolder(path).status == FINISHED:
        return str(path)
    raise InputError(
        f"The recipe {name!r} has no finished run at {path}. Run it first (sentikit "
        f"{kind_of(recipe)} --recipe {name} --output {path}), or name another run instead."
    )
