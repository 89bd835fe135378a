"""Runs of cascades and votes, with members that answer in the job or are recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.cascade import Cascade
from sentikit.classifiers.classifier import Classifier, Example
from sentikit.classifiers.prediction import Prediction
from sentikit.classifiers.vote import Vote
from sentikit.datasets.examples import strings
from sentikit.ensembles.cascade import JudgedCascade, judge_cascade
from sentikit.ensembles.ensemble import Ensemble, gather_runs
from sentikit.ensembles.recipe import (
    CascadeRecipe,
    CascadeSettings,
    VoteRecipe,
    VoteSettings,
    ensemble_settings,
    is_recorded,
    member_names,
    member_path,
    member_recipe,
)
from sentikit.ensembles.thresholds import CascadeChoice, tuned
from sentikit.ensembles.vote import JudgedVote, answer_costs, count_votes, judge_vote, vote_of
from sentikit.errors import InputError
from sentikit.labelling.job import RunSteps, label_run
from sentikit.labelling.loading import load, refuse_missing_model
from sentikit.labelling.prompting import earlier_costs, split_classifier, split_to_label
from sentikit.labelling.rows import LabellingOptions, predicted
from sentikit.llm.context import encoder_cost
from sentikit.llm.prices import recorded_models_warnings
from sentikit.llm.recipe import PromptComponents, prompt_components
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.session import RequestSession
from sentikit.recipe.resolving import ResolvedRecipe, kind_of, resolve_values
from sentikit.registry import Registry
from sentikit.runs.alignment import align_all
from sentikit.runs.folder import (
    FINISHED,
    RUNS,
    LabelledSplit,
    RunFolder,
    choose_run_folder,
    recorded_manifest,
)
from sentikit.runs.reading import read_run, split_suffix
from sentikit.runs.recorded import RecordedClassifier
from sentikit.runs.table import Labelling, RunTable, class_numbers
from sentikit.runs.writer import RunPlan, RunWriter, SplitRows


def recorded_recipe(kind: str, runs: Sequence[str], **settings: Any) -> ResolvedRecipe:
    """Return the recipe of an ensemble of recorded runs.

    Raises:
        InputError: there is no such run or file.
    """
    for run in runs:
        if not is_recorded(run):
            read_run(run)
    section = {"members": list(runs), **settings}
    return resolve_values({"kind": kind, kind: section}, kind, "the command")


def run_cascade(
    recipe: ResolvedRecipe, run: RunFolder | None, options: LabellingOptions, registry: Registry
) -> tuple[JudgedCascade, RunFolder | None]:
    """Label a split with a cascade and save a run.

    If all members are recorded, the split is theirs, and `run` None saves no run.
    """
    settings = ensemble_settings(recipe, registry, CascadeRecipe)
    origin = _Members(settings.cascade.stages, registry, settings.dataset, settings.split)
    steps = _CascadeSteps(settings.cascade, origin, origin.opened(options.limit), options.limit)
    run = _label(recipe, run, options, steps)
    return steps.judged, run


def run_vote(
    recipe: ResolvedRecipe, run: RunFolder | None, options: LabellingOptions, registry: Registry
) -> tuple[JudgedVote, RunFolder | None]:
    """Label a split with a vote and save a run; see `run_cascade`."""
    settings = ensemble_settings(recipe, registry, VoteRecipe).vote
    origin = _Members(member_names(settings.members), registry)
    steps = _VoteSteps(settings, origin.opened(options.limit))
    run = _label(recipe, run, options, steps)
    return steps.judged, run


@dataclass(frozen=True)
class _Members:
    stages: Mapping[str, str]
    registry: Registry
    dataset: Mapping[str, Any] | None = None
    split: str = "test"

    def _asked(self) -> dict[str, PromptComponents]:
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

    def opened(self, limit: int | None) -> _Opened:
        """Load the split of the first LLM's recipe, and the members.

        If no LLM answers in the job, the split and the answers are those that the members recorded.
        """
        asked = self._asked()
        if asked:
            split = split_to_label(next(iter(asked.values())), limit)
            members = {
                name: split_classifier(asked[name], split, self.registry)
                if name in asked
                else self._member(member, split)
                for name, member in self.stages.items()
            }
            return _Opened(split, members, asked, self._paid_before(asked))
        paths = [member_path(member, RUNS, self.registry) for member in self.stages.values()]
        unlabelled = next((path for path in paths if not is_recorded(path)), None)
        if unlabelled is not None:
            raise InputError(
                f"{unlabelled} has labelled no texts, and no member is a prompt recipe with a "
                "dataset to label. Instead, label a dataset with sentikit evaluate RECIPE "
                "--dataset NAME, or a file with sentikit predict RECIPE FILE."
            )
        if limit is not None or self.dataset is not None:
            given = "dataset" if limit is None else "--limit"
            raise InputError(f"Recorded runs have their own texts. Leave out {given}.")
        ensemble = gather_runs(paths)
        return _Opened(_split_of(ensemble), {}, {}, self._paid_before({}), ensemble)

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

    def _paid_before(self, asked: Mapping[str, PromptComponents]) -> dict[str, float | None]:
        """Return the known costs of training and fine-tuning the members."""
        costs: dict[str, float | None] = {}
        for number, (name, member) in enumerate(self.stages.items(), 1):
            recipe = member_recipe(member, self.registry)
            path = member if recipe is None else str(RUNS / recipe.name)
            found = earlier_costs(asked[name]) if name in asked else _costs_before(path)
            for item, cost in found.items():
                # Members may share an encoder; differing costs are numbered.
                known = costs.get(item, cost) == cost
                costs[item if known else f"{item} {number}"] = cost
        return costs


def _costs_before(path: str) -> dict[str, float | None]:
    """Return the costs of a run before it labelled texts, by item."""
    manifest = recorded_manifest(path)
    if manifest.get("kind") == "train":
        return {"encoder": cost} if (cost := encoder_cost(path)) else {}
    costs = dict(manifest.get("cost_usd") or {})
    return {item: cost for item, cost in costs.items() if item not in ("llm", "probing")}


@dataclass(frozen=True)
class _Opened:
    """The members of an ensemble, ready to label a split.

    Attributes:
        split: the examples to label.
        members: by name; empty if all are recorded.
        asked: the components of the LLMs that answer in the job, by name.
        costs: USD paid before, by item.
        recorded: the members' rows if all are recorded.
    """

    split: LabelledSplit
    members: Mapping[str, Classifier]
    asked: Mapping[str, PromptComponents]
    costs: Mapping[str, float | None]
    recorded: Ensemble | None = None


def _split_of(ensemble: Ensemble) -> LabelledSplit:
    """Return the split of recorded runs; its name is that of the first run that has one."""
    described = [m.manifest["dataset"] for m in ensemble.members if "dataset" in m.manifest]
    known: Mapping[str, Any] = described[0] if described else {}
    return LabelledSplit(
        ensemble.examples,
        ensemble.classes,
        known.get("dataset", "recorded"),
        known.get("split", "test"),
        ensemble.ordered,
        has_texts=any(member.has_texts for member in ensemble.members),
    )


def _repeating(
    opened: _Opened, ensemble: Ensemble, names: Sequence[str], costs: Sequence[_Costs]
) -> dict[str, Classifier]:
    """Return classifiers with the recorded answers of each member for the split."""
    members = zip(names, ensemble.members, costs, strict=True)
    texts = opened.split.has_texts
    return {
        name: RecordedClassifier(
            dataclasses.replace(table, examples=ensemble.examples, has_texts=texts, cost=cost)
        )
        for name, table, cost in members
    }


_Costs = NDArray[np.float64] | None


def _label(
    recipe: ResolvedRecipe,
    run: RunFolder | None,
    options: LabellingOptions,
    steps: _CascadeSteps | _VoteSteps,
) -> RunFolder | None:
    opened, classifier = steps.opened, steps.classifier()
    if run is None and opened.recorded:
        # The results are computed, and no row has to be written.
        reporter = RequestReporter(None)
        for warning in recorded_models_warnings(m.manifest for m in opened.recorded.members):
            reporter.say(warning)
        return None
    described = {name: member.describe() for name, member in steps.members.items()}
    manifest = {"limit": options.limit, "members": described}
    plan = RunPlan(
        kind_of(recipe), recipe.values, recipe.to_yaml(), opened.split, manifest, opened.costs
    )
    caches = (components.llm_options.cache for components in opened.asked.values())
    cache = next(filter(None, caches), None)
    run = run or choose_run_folder(None, recipe.name, options.resume)
    with run.locked(new=not options.resume):
        label_run(classifier, run, plan, options, cache, steps=steps)
    return run


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
        gold = class_numbers(strings(examples.labels), split.classes)
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


class _JudgedCascade(Cascade):
    """A cascade of two recorded members with the member of each row already chosen."""

    def __init__(self, members: Mapping[str, Classifier], judged: JudgedCascade) -> None:
        super().__init__(members, [judged.threshold])
        # By their order: files may have an id in several rows.
        self._asked = iter(judged.asked[judged.ensemble.has_text].tolist())

    def is_sure(self, prediction: Prediction, certainty: float | None) -> bool:
        return not next(self._asked)


class _CascadeSteps(RunSteps):
    """The steps of a cascade's run: choosing a threshold on validation, and the results."""

    judged: JudgedCascade

    def __init__(
        self, settings: CascadeSettings, origin: _Members, opened: _Opened, limit: int | None
    ) -> None:
        self.opened, self.members = opened, opened.members
        self._settings, self._origin, self._limit = settings, origin, limit
        self._thresholds = settings.thresholds
        self._explanation = ""
        self._tuning_cost: float | None = 0.0
        self._asked: list[bool] = []
        classes = opened.split.classes
        self._first, self._last = _Answers(classes), _Answers(classes)
        self._whole: JudgedCascade | None = None
        if opened.recorded is not None:
            self._judge_recorded(opened.recorded)

    def _judge_recorded(self, ensemble: Ensemble) -> None:
        first, *others = ensemble.members
        costs = [first.cost, *map(answer_costs, others)]
        if self._settings.llm_cost is not None:
            costs[-1] = np.full(len(ensemble), self._settings.llm_cost / 1000)
        self.members = _repeating(self.opened, ensemble, list(self._settings.stages), costs)
        if not others[1:]:
            self.judged = self._whole = judge_cascade(ensemble, self._choice())
            self._thresholds = [self.judged.threshold]

    def _choice(self) -> CascadeChoice:
        tune, cuts = self._settings.tune, self._thresholds
        choice = CascadeChoice(cuts[0] if cuts else None, llm_cost=self._settings.llm_cost)
        if tune is None:
            return choice
        runs = gather_runs(tune.runs) if tune.runs and not cuts else None
        return dataclasses.replace(choice, tune=runs, aim=tune.aim)

    def classifier(self) -> Cascade:
        """Return the cascade; until its threshold is chosen, one that is only checked."""
        if self._whole is not None:
            return _JudgedCascade(self.members, self._whole)
        return Cascade(self.members, self._thresholds or [1.0] * (len(self.members) - 1))

    def begin(self, session: RequestSession) -> Classifier | None:
        if self._settings.tune is None or self._whole is not None:
            return None
        choice = self._choice()
        tune = choice.tune or self._asked_for_tuning(session)
        threshold, self._explanation = tuned(tune, choice, "validation texts")
        self._thresholds = [threshold]
        return self.classifier()

    def _asked_for_tuning(self, session: RequestSession) -> Ensemble:
        """Ask both members about the whole validation split."""
        opened = dataclasses.replace(self._origin, split="validation").opened(self._limit)
        answers = {name: _Answers(opened.split.classes) for name in opened.members}
        for name, classifier in opened.members.items():
            classifier.prepare(session)
            for _, prediction in predicted(classifier, SplitRows(opened.split), session):
                answers[name].add(prediction)
        costs = [own.cost for own in answers.values()]
        self._tuning_cost = None if None in costs else sum(cost or 0.0 for cost in costs)
        return gather_runs([own.table(opened.split, name) for name, own in answers.items()])

    def add(
        self, writer: RunWriter, example: Example, gold: str | None, prediction: Prediction
    ) -> None:
        name = next(iter(self.members))
        sure = (prediction.answered_by or "").partition("/")[0] == name
        first = prediction if sure else (prediction.adviser or Prediction(None))
        if self._whole is None:
            self._asked.append(not sure and self.opened.split.has_text(example.text))
            self._first.add(first)
            self._last.add(Prediction(None, cost=None) if sure else prediction)
        writer.add(example, gold, dataclasses.replace(prediction, adviser=first))

    def results(self) -> dict[str, Any]:
        if self._whole is None:
            first, *others = self._settings.stages.values()
            split = self.opened.split
            tables = [self._first.table(split, first), self._last.table(split, " → ".join(others))]
            asked = np.array(self._asked, bool)
            self.judged = judge_cascade(
                gather_runs(tables), self._choice(), asked, self._explanation
            )
        assert self._thresholds is not None
        found = self.judged.to_json() | {"thresholds": list(self._thresholds)}
        return {
            "metrics": {"cascade": self.judged.summary()},
            "files": {"cascade.json": found},
            "costs": {"tuning": self._tuning_cost},
        }


class _VoteSteps(RunSteps):
    """The steps of a vote's run: every member's label, and the results."""

    judged: JudgedVote

    def __init__(self, settings: VoteSettings, opened: _Opened) -> None:
        self.opened, self.members = opened, opened.members
        self._settings = settings
        self._votes = [_Answers(opened.split.classes) for _ in settings.members]
        self._own = _Answers(opened.split.classes)
        if opened.recorded is not None:
            costs = [answer_costs(member) for member in opened.recorded.members]
            names = list(member_names(settings.members))
            self.members = _repeating(opened, opened.recorded, names, costs)
            self.judged = vote_of(opened.recorded, settings.ties)

    def classifier(self) -> Vote:
        return Vote(self.members, self._settings.ties)

    def add(
        self, writer: RunWriter, example: Example, gold: str | None, prediction: Prediction
    ) -> None:
        votes = prediction.votes or (None,) * len(self._votes)
        for answers, label in zip(self._votes, votes, strict=True):
            answers.add(Prediction(label))
        self._own.add(prediction)
        writer.add(example, gold, prediction, votes=list(votes))

    def results(self) -> dict[str, Any]:
        if self.opened.recorded is None:
            self.judged = self._judged()
        return {
            "metrics": {"vote": self.judged.summary()},
            "files": {"vote.json": self.judged.to_json()},
        }

    def _judged(self) -> JudgedVote:
        pairs = zip(self._votes, self._settings.members, strict=True)
        ensemble = gather_runs([answers.table(self.opened.split, path) for answers, path in pairs])
        winners = count_votes([member.answers for member in ensemble.members])
        own = self._own.table(self.opened.split, "vote").in_classes(ensemble.classes, "vote")
        cost = None if self._own.cost is None else self._own.cost / len(own) * 1000
        return judge_vote(ensemble, winners, self._settings.ties, cost, own.answers.labels)
