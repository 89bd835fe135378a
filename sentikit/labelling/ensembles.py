"""Runs of cascades and votes, with members that answer in the job or are recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sentikit.classifiers.cascade import Cascade
from sentikit.classifiers.classifier import Classifier, Example
from sentikit.classifiers.prediction import Prediction
from sentikit.classifiers.vote import Ties, Vote
from sentikit.ensembles.cascade import JudgedCascade, judge_cascade
from sentikit.ensembles.ensemble import Ensemble, gather_runs
from sentikit.ensembles.recipe import (
    CascadeRecipe,
    CascadeSettings,
    Tuning,
    VoteRecipe,
    ensemble_settings,
    is_recorded,
    member_names,
    member_path,
    member_recipe,
)
from sentikit.ensembles.thresholds import CascadeChoice, choose, routed
from sentikit.ensembles.vote import JudgedVote, count_votes, judge_vote, vote
from sentikit.errors import InputError
from sentikit.labelling.job import RunSteps, label_run
from sentikit.labelling.loading import load, refuse_missing_model
from sentikit.labelling.prompting import earlier_costs, split_classifier, split_to_label
from sentikit.labelling.rows import LabellingOptions, has_text, predicted
from sentikit.llm.context import encoder_cost
from sentikit.llm.recipe import PromptComponents, prompt_components
from sentikit.llm.session import RequestSession
from sentikit.recipe.resolving import ResolvedRecipe, kind_of, resolve_values
from sentikit.registry import Registry
from sentikit.runs.alignment import align_all
from sentikit.runs.folder import FINISHED, RUNS, LabelledSplit, RunFolder, choose_run_folder
from sentikit.runs.reading import read_run, split_suffix
from sentikit.runs.recorded import RecordedClassifier
from sentikit.runs.table import Labelling, RunTable, class_numbers
from sentikit.runs.writer import RunPlan, RunWriter, SplitRows
from sentikit.yaml_files import dump_yaml


@dataclass(frozen=True)
class _Members:
    """Finds and loads the members of an ensemble for a split."""

    stages: Mapping[str, str]
    registry: Registry
    dataset: Mapping[str, Any] | None = None
    split: str = "test"

    def asked(self) -> dict[str, PromptComponents]:
        """Return the components of the LLMs that answer in the job, by name."""
        found: dict[str, PromptComponents] = {}
        for name, member in self.stages.items():
            recipe = member_recipe(member, self.registry)
            if recipe is None or kind_of(recipe) in ("cascade", "vote"):
                continue
            # A recipe with a finished run counts as recorded.
            finished = RunFolder(RUNS / recipe.name).status == FINISHED
            if kind_of(recipe) != "prompt" or finished:
                member_path(member, RUNS, self.registry)
                continue
            values = recipe.values | {"split": self.split}
            values |= {} if self.dataset is None else {"dataset": self.dataset}
            found[name] = prompt_components(
                resolve_values(values, recipe.name, member), self.registry
            )
            refuse_missing_model(found[name])
        return found

    def split_to_label(
        self, asked: Mapping[str, PromptComponents], limit: int | None
    ) -> LabelledSplit:
        """Load the split of the first LLM's recipe."""
        if not asked:
            raise InputError(
                f"None of the members {', '.join(self.stages.values())} is a prompt recipe with a "
                "dataset to label. Label a file instead: sentikit predict RECIPE FILE"
            )
        return split_to_label(next(iter(asked.values())), limit)

    def loaded(
        self, asked: Mapping[str, PromptComponents], split: LabelledSplit
    ) -> dict[str, Classifier]:
        return {
            name: split_classifier(asked[name], split, self.registry)
            if name in asked
            else self._member(member, split)
            for name, member in self.stages.items()
        }

    def _member(self, member: str, split: LabelledSplit) -> Classifier:
        """Return a member's recorded answers if they cover the split, else load it."""
        recipe = member_recipe(member, self.registry)
        if recipe is not None and kind_of(recipe) in ("cascade", "vote"):
            return load(member)
        path = member_path(member, RUNS, self.registry)
        plain, of_encoder = split_suffix(path)
        folder = Path(plain).expanduser()
        of_file = of_encoder or folder.is_file()
        if not of_file and not (folder / "predictions.jsonl").is_file():
            return load(path)
        table = read_run(path, registry=self.registry)
        try:
            names = (split.name, table.name)
            align_all(split.examples, table.examples, names, not table.has_texts)
        except InputError as error:
            if of_file:
                raise
            try:
                return load(path)
            except InputError:
                raise error from None
        return RecordedClassifier(table)

    def paid_before(self, asked: Mapping[str, PromptComponents]) -> dict[str, float | None]:
        """Return the known costs of training and fine-tuning the members."""
        costs: dict[str, float | None] = {}
        for components in asked.values():
            costs |= earlier_costs(components)
        for member in self.stages.values():
            recipe = member_recipe(member, self.registry)
            path = member if recipe is None else str(RUNS / recipe.name)
            trained = encoder_cost(path) if Path(path).is_dir() else 0.0
            costs |= {"encoder": trained} if trained else {}
        return costs


def run_cascade(
    recipe: ResolvedRecipe,
    run: RunFolder,
    options: LabellingOptions,
    registry: Registry,
) -> JudgedCascade:
    """Label a split with a cascade and save a run.

    A cascade of two runs or files uses their recorded answers. The runs of recipes are those in
    ``runs``.
    """
    settings = ensemble_settings(recipe, registry, CascadeRecipe)
    stages = settings.cascade.stages
    members = _Members(stages, registry, settings.dataset, settings.split)
    first, *others = stages.values()
    if len(stages) == 2 and is_recorded(others[0]):
        if options.limit is not None:
            raise InputError("--limit has no effect on a recorded LLM. Leave it out.")
        if settings.dataset is not None:
            raise InputError("A recorded LLM has its own dataset. Leave out dataset.")
        judged = _judge_recorded(settings.cascade, member_path(first, RUNS, registry), others[0])
        with run.locked(new=run.status == ""):
            write_cascade(run, judged, recipe.values)
        return judged
    asked = members.asked()
    split = members.split_to_label(asked, options.limit)
    steps = _CascadeSteps(settings.cascade, members.loaded(asked, split), split, members, options)
    _label(recipe, run, options, members.paid_before(asked), steps, asked)
    return steps.judged


def _judge_recorded(settings: CascadeSettings, encoder: str, llm: str) -> JudgedCascade:
    tune, cuts = settings.tune, settings.thresholds
    choice = CascadeChoice(cuts[0]) if cuts else CascadeChoice()
    if tune is not None:
        runs = gather_runs(tune.runs) if tune.runs else None
        choice = dataclasses.replace(choice, tune=runs, aim=tune.aim)
    return judge_cascade(gather_runs([encoder, llm]), choice)


def run_vote(
    recipe: ResolvedRecipe,
    run: RunFolder | None,
    options: LabellingOptions,
    registry: Registry,
) -> tuple[JudgedVote, RunFolder | None]:
    """Label a split with a vote; if all members are recorded, `run` None saves no run."""
    settings = ensemble_settings(recipe, registry, VoteRecipe).vote
    members = _Members(member_names(settings.members), registry)
    asked = members.asked()
    paths = [
        member if name in asked else member_path(member, RUNS, registry)
        for name, member in members.stages.items()
    ]
    if not asked:
        judged = vote(paths, settings.ties)
        if run is not None:
            with run.locked(new=not run.status):
                write_vote(run, judged, recipe.values)
        return judged, run
    split = members.split_to_label(asked, options.limit)
    steps = _VoteSteps(settings.ties, members.loaded(asked, split), split, paths)
    run = run or choose_run_folder(None, recipe.name, options.resume)
    _label(recipe, run, options, members.paid_before(asked), steps, asked)
    return steps.judged, run


def _label(
    recipe: ResolvedRecipe,
    run: RunFolder,
    options: LabellingOptions,
    costs: Mapping[str, float | None],
    steps: _CascadeSteps | _VoteSteps,
    asked: Mapping[str, PromptComponents],
) -> None:
    described = {name: member.describe() for name, member in steps.members.items()}
    manifest = {"limit": options.limit, "members": described}
    plan = RunPlan(kind_of(recipe), recipe.values, recipe.to_yaml(), steps.split, manifest, costs)
    caches = (components.llm_options.cache for components in asked.values())
    cache = next((path for path in caches if path), None)
    with run.locked(new=not options.resume):
        label_run(steps.classifier(), run, plan, options, cache, steps=steps)


class _Answers:
    """The labels of one member, or of an ensemble, for the rows of a split."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = {label: number for number, label in enumerate(classes)}
        self._labels: list[int] = []
        self._shares: list[list[float] | None] = []
        self._costs: list[float] = []

    def add(self, prediction: Prediction) -> None:
        label, known, cost = prediction.label, prediction.probabilities, prediction.cost
        self._labels.append(-1 if label is None else self._classes[label])
        shares = None if known is None else [known.get(label, 0.0) for label in self._classes]
        self._shares.append(shares)
        self._costs.append(float("nan") if cost is None else cost)

    @property
    def cost(self) -> float | None:
        """USD of all rows; None if one is unknown."""
        total = sum(self._costs)
        return None if np.isnan(total) else total

    def table(self, split: LabelledSplit, name: str) -> RunTable:
        examples, unknown = split.examples, [float("nan")] * len(self._classes)
        gold = class_numbers(pa.array(examples.labels, pa.string()), split.classes)
        shares = None
        if any(row is not None for row in self._shares):
            shares = np.array([row or unknown for row in self._shares], np.float64)
        answers = Labelling(np.array(self._labels, np.int64), shares)
        costs = np.array(self._costs, np.float64)
        return RunTable(
            name,
            split.classes,
            examples,
            gold,
            answers,
            cost=None if np.isnan(costs).all() else costs,
            ordered=split.ordered,
        )


class _CascadeSteps(RunSteps):
    """The steps of a cascade's run: choosing a threshold on validation, and the results."""

    judged: JudgedCascade

    def __init__(
        self,
        settings: CascadeSettings,
        members: Mapping[str, Classifier],
        split: LabelledSplit,
        origin: _Members,
        options: LabellingOptions,
    ) -> None:
        self.members, self.split = members, split
        self._settings, self._origin, self._options = settings, origin, options
        self._thresholds = settings.thresholds
        self._explanation = ""
        self._tuning_cost: float | None = 0.0
        self._asked: list[bool] = []
        self._first, self._last = _Answers(split.classes), _Answers(split.classes)

    def classifier(self) -> Cascade:
        """Return the cascade; before a threshold is chosen, one for the checks."""
        return Cascade(self.members, self._thresholds or [1.0] * (len(self.members) - 1))

    def begin(self, session: RequestSession) -> Classifier | None:
        if self._settings.tune is None:
            return None
        self._thresholds = [self._tuned(self._settings.tune, session)]
        return self.classifier()

    def _tuned(self, tune: Tuning, session: RequestSession) -> float:
        ensemble = gather_runs(tune.runs) if tune.runs else self._asked_for_tuning(session)
        known = routed(ensemble).select(ensemble.scored)
        if not len(known):
            raise InputError("No text of the validation split has a gold label to tune on.")
        point = choose(known, tune.aim)
        self._explanation = (
            f"Chosen on {len(known):,} validation texts, where it sends {point.share:.1%} to the "
            f"LLM and macro-F1 is {point.macro_f1:.4f}."
        )
        return point.threshold

    def _asked_for_tuning(self, session: RequestSession) -> Ensemble:
        """Classify the whole validation split with both members."""
        members = dataclasses.replace(self._origin, split="validation")
        asked = members.asked()
        split = members.split_to_label(asked, self._options.limit)
        answers = {name: _Answers(split.classes) for name in members.stages}
        for name, classifier in members.loaded(asked, split).items():
            classifier.prepare(session)
            for _, prediction in predicted(classifier, SplitRows(split), session):
                answers[name].add(prediction)
        costs = [own.cost for own in answers.values()]
        self._tuning_cost = None if None in costs else sum(cost or 0.0 for cost in costs)
        return gather_runs([own.table(split, name) for name, own in answers.items()])

    def add(
        self, writer: RunWriter, example: Example, gold: str | None, prediction: Prediction
    ) -> None:
        name = next(iter(self.members))
        sure = (prediction.answered_by or "").partition("/")[0] == name
        first = prediction if sure else (prediction.adviser or Prediction(None))
        self._asked.append(not sure and has_text(example))
        self._first.add(first)
        self._last.add(Prediction(None, cost=None) if sure else prediction)
        writer.add(example, gold, dataclasses.replace(prediction, adviser=first))

    def results(self) -> dict[str, Any]:
        assert self._thresholds is not None
        first, *others = self._settings.stages.values()
        tables = [
            self._first.table(self.split, first),
            self._last.table(self.split, " → ".join(others)),
        ]
        choice = CascadeChoice(threshold=self._thresholds[0])
        if self._settings.tune:
            choice = dataclasses.replace(choice, aim=self._settings.tune.aim)
        asked = np.array(self._asked, bool)
        self.judged = judge_cascade(gather_runs(tables), choice, asked, self._explanation)
        found = self.judged.to_json() | {"thresholds": list(self._thresholds)}
        return {
            "metrics": {"cascade": self.judged.summary()},
            "files": {"cascade.json": found},
            "costs": {"tuning": self._tuning_cost},
        }


class _VoteSteps(RunSteps):
    """The steps of a vote's run: every member's label, and the results."""

    judged: JudgedVote

    def __init__(
        self,
        ties: Ties,
        members: Mapping[str, Classifier],
        split: LabelledSplit,
        paths: Sequence[str],
    ) -> None:
        self.members, self.split = members, split
        self._ties, self._paths = ties, paths
        self._votes = [_Answers(split.classes) for _ in members]
        self._own = _Answers(split.classes)

    def classifier(self) -> Vote:
        return Vote(self.members, self._ties)

    def add(
        self, writer: RunWriter, example: Example, gold: str | None, prediction: Prediction
    ) -> None:
        votes = prediction.votes or (None,) * len(self._votes)
        for answers, label in zip(self._votes, votes, strict=True):
            answers.add(Prediction(label))
        self._own.add(prediction)
        writer.add(example, gold, prediction, votes=list(votes))

    def results(self) -> dict[str, Any]:
        pairs = zip(self._votes, self._paths, strict=True)
        ensemble = gather_runs([answers.table(self.split, path) for answers, path in pairs])
        winners = count_votes([member.answers for member in ensemble.members])
        own = self._own.table(self.split, "vote").in_classes(ensemble.classes, "vote")
        cost = None if self._own.cost is None else self._own.cost / len(own) * 1000
        self.judged = judge_vote(ensemble, winners, self._ties, cost, own.answers.labels)
        return {
            "metrics": {"vote": self.judged.summary()},
            "files": {"vote.json": self.judged.to_json()},
        }


def recorded_recipe(judged: JudgedCascade, tune: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the recipe of a cascade of two recorded runs, which can be run again."""
    cascade: dict[str, Any] = {"members": [judged.encoder, judged.llm]}
    if judged.how == "given":
        cascade["thresholds"] = [judged.threshold]
    else:
        cascade["tune"] = {"goal": judged.aim.goal, "target": judged.aim.target}
        if tune is not None:
            cascade["tune"] |= dict(zip(("encoder", "llm"), tune, strict=True))
    return {"kind": "cascade", "cascade": cascade}


def write_cascade(run: RunFolder, judged: JudgedCascade, recipe: Mapping[str, Any]) -> None:
    """Write the run of a cascade of two recorded runs into a locked folder."""
    encoder, llm = judged.ensemble.members
    costs = {
        item: cost for item, cost in (llm.manifest.get("cost_usd") or {}).items() if item != "llm"
    }
    if Path(encoder.name).is_dir():
        trained = encoder_cost(encoder.name)
        costs |= {"encoder": trained} if trained else {}
    first, last = RecordedClassifier(encoder), RecordedClassifier(llm)

    def predictions() -> Iterable[Prediction]:
        for row, asked in enumerate(judged.asked.tolist()):
            sure = first.prediction(row)
            answered = dataclasses.replace(sure, cost=0.0)
            if asked:
                known = None if llm.cost is None else float(llm.cost[row])
                cost = None if known is None or np.isnan(known) else known
                answered = dataclasses.replace(last.prediction(row), cost=cost)
            by = "llm" if asked else "encoder"
            yield dataclasses.replace(answered, answered_by=by, adviser=sure)

    _write(run, judged, recipe, costs, predictions())


def write_vote(run: RunFolder, judged: JudgedVote, recipe: Mapping[str, Any] | None = None) -> None:
    """Write the run of a vote of recorded runs into a locked folder."""
    named = {"members": list(judged.members), "ties": judged.ties}
    costs: dict[str, float | None] = {}
    for number, member in enumerate(judged.ensemble.members, 1):
        costs |= {
            f"{item} {number}": cost
            for item, cost in (member.manifest.get("cost_usd") or {}).items()
        }
    names = [*judged.ensemble.classes, None]
    labels = zip(*(m.answers.labels.tolist() for m in judged.ensemble.members), strict=True)
    predictions = (
        Prediction(names[label], votes=tuple(names[number] for number in votes))
        for label, votes in zip(judged.labels.tolist(), labels, strict=True)
    )
    _write(run, judged, recipe or {"kind": "vote", "vote": named}, costs, predictions)


def _write(
    run: RunFolder,
    judged: JudgedCascade | JudgedVote,
    recipe: Mapping[str, Any],
    costs: Mapping[str, float | None],
    predictions: Iterable[Prediction],
) -> None:
    """Write a run over the members' split, if one of them records it."""
    ensemble, kind = judged.ensemble, recipe["kind"]
    described = [m.manifest["dataset"] for m in ensemble.members if "dataset" in m.manifest]
    known: Mapping[str, Any] = described[0] if described else {}
    name, split = known.get("dataset", "recorded"), known.get("split", "test")
    labelled = LabelledSplit(ensemble.examples, ensemble.classes, name, split, ensemble.ordered)
    plan = RunPlan(kind, recipe, dump_yaml(dict(recipe)), labelled, costs=costs)
    with RunWriter(run, plan) as writer:
        writer.begin(resume=bool(run.status))
        for row, prediction in zip(SplitRows(labelled), predictions, strict=True):
            more = {} if prediction.votes is None else {"votes": list(prediction.votes)}
            writer.add(row.example, row.gold, prediction, **more)
        writer.finish(metrics={kind: judged.summary()}, files={f"{kind}.json": judged.to_json()})
