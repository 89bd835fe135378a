"""Runs of cascades and votes: of members that answer in the job, or of recorded ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentikit.classifiers.cascade import Cascade
from sentikit.classifiers.classifier import Classifier, Example
from sentikit.classifiers.prediction import Prediction, Usage
from sentikit.classifiers.vote import Ties, Vote
from sentikit.ensembles.ensemble import Ensemble, VoteCount, gather, vote
from sentikit.ensembles.judgement import (
    JudgedCascade,
    JudgedVote,
    judge_answers,
    judge_cascade,
    judge_vote,
)
from sentikit.ensembles.recipe import (
    CascadeRecipe,
    Tuning,
    VoteRecipe,
    cascade_settings,
    is_recorded,
    member_names,
    member_path,
    vote_settings,
)
from sentikit.ensembles.recorded import chosen_probabilities
from sentikit.ensembles.thresholds import Aim, CascadeChoice, choose, routed
from sentikit.errors import InputError
from sentikit.labelling.job import RunSteps, Sink, label_run, predicted
from sentikit.labelling.prompting import (
    PromptOptions,
    earlier_costs,
    refuse_missing,
    split_classifier,
    split_to_label,
)
from sentikit.llm.adviser import encoder_cost
from sentikit.llm.recipe import PromptParts, prompt_parts
from sentikit.llm.session import RequestSession
from sentikit.recipe.resolving import ResolvedRecipe, kind_of, resolve_recipe, resolve_values
from sentikit.registry import Registry
from sentikit.runs.alignment import align_all
from sentikit.runs.folder import FINISHED, LabelledSplit, RunFolder, choose_run_folder
from sentikit.runs.reading import read_run, split_suffix
from sentikit.runs.recorded import RecordedClassifier
from sentikit.runs.table import Labelling, RunTable, class_numbers
from sentikit.runs.writer import RunPlan, RunWriter, split_rows
from sentikit.yaml_files import dump_yaml

#: The whole judgement, curve included, beside the run's metrics.
CASCADE, VOTE = "cascade.json", "vote.json"
Load = Callable[[str], Classifier]


@dataclass(frozen=True)
class _Place:
    """Where the members of an ensemble come from.

    Attributes:
        runs: where the run of a recipe is looked for.
        registry: where to look for components.
        load: loads a member that labels any text.
        dataset: in place of the members' own, or None.
        split: the split to label.
    """

    runs: Path
    registry: Registry
    load: Load
    dataset: Mapping[str, Any] | None = None
    split: str = "test"

    def prompt_parts(self, member: str) -> PromptParts | None:
        """Return the components of a member to be asked; None where it is no prompt recipe.

        A recipe with a finished run is taken as recorded.
        """
        if is_recorded(member) or member in self.registry.names("register_classifiers"):
            return None
        resolved = resolve_recipe(member, registry=self.registry)
        recorded = RunFolder(self.runs / resolved.name).status == FINISHED
        if kind_of(resolved) != "prompt" or recorded:
            return None
        values = resolved.values | {"split": self.split}
        if self.dataset is not None:
            values |= {"dataset": self.dataset}
        parts = prompt_parts(resolve_values(values, resolved.name, member), self.registry)
        refuse_missing(parts)
        return parts

    def member(self, name: str, split: LabelledSplit) -> Classifier:
        """Return a member that labels a split: as recorded where all of it is, or loaded.

        Raises:
            InputError: it cannot be loaded; a file or PATH#encoder lacks examples of the split.
        """
        parts = self.prompt_parts(name)
        if parts is not None:
            return split_classifier(parts, split, self.registry, self.load)
        if name in self.registry.names("register_classifiers"):
            return self.load(name)
        kind = "" if is_recorded(name) else kind_of(resolve_recipe(name, registry=self.registry))
        if kind in ("cascade", "vote"):
            return self.load(name)
        path = member_path(name, self.runs, self.registry)
        plain, of_encoder = split_suffix(path)
        folder = Path(plain).expanduser()
        if of_encoder or folder.is_file():
            table = read_run(path, registry=self.registry)
            self._aligned(split, table)
            return RecordedClassifier(table)
        if (folder / "predictions.jsonl").is_file():
            table = read_run(path, registry=self.registry)
            try:
                self._aligned(split, table)
                return RecordedClassifier(table)
            except InputError as error:
                try:
                    return self.load(path)
                except InputError:
                    raise error from None
        return self.load(path)

    def refuse_untrained(self, member: str) -> None:
        """Refuse a training recipe that has no run yet, before anything is asked."""
        if is_recorded(member) or member in self.registry.names("register_classifiers"):
            return
        if kind_of(resolve_recipe(member, registry=self.registry)) == "train":
            member_path(member, self.runs, self.registry)

    def _aligned(self, split: LabelledSplit, table: RunTable) -> None:
        names = (split.name, table.name)
        align_all(split.examples, table.examples, names, not table.has_texts)


def run_cascade(
    recipe: ResolvedRecipe,
    run: RunFolder,
    options: PromptOptions,
    registry: Registry,
    runs: Path,
    load: Load,
) -> JudgedCascade:
    """Label a split with a cascade and leave a run; each member is asked what is left to it.

    Args:
        recipe: of kind cascade. Two members that are runs or files are judged as recorded.
        run: the folder.
        options: limit, budget and failures, and whether to resume a run.
        registry: where to look for components.
        runs: where a recipe's run is looked for.
        load: loads a member that labels any text.

    Raises:
        Interrupted: the user asked to stop; the run can be resumed.
        InputError: something the user gave cannot be used.
        SentikitError: a member failed; the run can be resumed.
    """
    settings = cascade_settings(recipe, registry)
    stages = settings.cascade.stages
    place = _Place(runs, registry, load, settings.dataset, settings.split)
    first, *others = stages.values()
    if len(stages) == 2 and is_recorded(others[0]):
        if options.limit is not None:
            raise InputError("A recorded LLM has answered already: leave --limit out.")
        return _judge_recorded(settings, recipe, run, member_path(first, runs, registry))
    for member in stages.values():
        if (
            not is_recorded(member)
            and kind_of(resolve_recipe(member, registry=registry)) == "train"
        ):
            member_path(member, runs, registry)
    parts = _asked_parts(stages, place)
    split = split_to_label(_one(parts, stages), options.limit)
    members = {name: place.member(member, split) for name, member in stages.items()}
    steps = _CascadeSteps(settings, members, split, place, options)
    plan = _plan("cascade", recipe, split, options, members, _paid_before(stages, parts, place))
    with run.locked(new=not options.resume):
        label_run(steps.untuned(), run, plan, options, _cache(parts), steps=steps)
    return steps.judged


def run_vote(
    recipe: ResolvedRecipe,
    run: RunFolder | None,
    options: PromptOptions,
    registry: Registry,
    runs: Path,
    load: Load,
) -> tuple[JudgedVote, RunFolder | None]:
    """Label a split with a vote and leave a run; recorded members are not asked again.

    Args:
        recipe: of kind vote.
        run: the folder; None leaves none, where all members are recorded.
        options: budget and failures, and whether to resume a run.
        registry: where to look for components.
        runs: where a recipe's run is looked for, and where the run goes without `run`.
        load: loads a member that labels any text.

    Returns:
        The vote, and its run where it left one.

    Raises:
        Interrupted: the user asked to stop; the run can be resumed.
        InputError: something the user gave cannot be used; nothing was asked.
        SentikitError: a member failed; the run can be resumed.
    """
    settings: VoteRecipe = vote_settings(recipe, registry)
    members = settings.vote.members
    place = _Place(runs, registry, load)
    parts = _asked_parts({member: member for member in members}, place)
    for member in members:
        place.refuse_untrained(member)
    paths = [name if name in parts else member_path(name, runs, registry) for name in members]
    if not parts:
        ensemble = gather([read_run(path) for path in paths])
        judged = judge_vote(ensemble, settings.vote.ties)
        if run is not None:
            with run.locked(new=not run.status):
                write_vote(run, ensemble, judged, recipe.values)
        return judged, run
    named = member_names(members)
    split = split_to_label(_one(parts, {name: name for name in members}), options.limit)
    loaded = {name: place.member(member, split) for name, member in named.items()}
    steps = _VoteSteps(tuple(paths), loaded, split, settings.vote.ties)
    plan = _plan("vote", recipe, split, options, loaded, _paid_before(named, parts, place))
    run = run or choose_run_folder(None, recipe.name, options.resume, runs)
    with run.locked(new=not options.resume):
        label_run(Vote(loaded, settings.vote.ties), run, plan, options, _cache(parts), steps=steps)
    return steps.judged, run


def _asked_parts(stages: Mapping[str, str], place: _Place) -> dict[str, PromptParts]:
    """Return the components of the members that are asked, by name."""
    found = {name: place.prompt_parts(member) for name, member in stages.items()}
    return {name: parts for name, parts in found.items() if parts is not None}


def _one(parts: Mapping[str, PromptParts], stages: Mapping[str, str]) -> PromptParts:
    """Return the components whose dataset is labelled."""
    if not parts:
        raise InputError(
            f"None of the members {', '.join(stages.values())} is a prompt recipe, whose dataset "
            "could be labelled. Label a file with it: sentikit predict RECIPE FILE"
        )
    return next(iter(parts.values()))


def _cache(parts: Mapping[str, PromptParts]) -> Path | None:
    return next((p.llm_options.cache for p in parts.values() if p.llm_options.cache), None)


def _paid_before(
    stages: Mapping[str, str], parts: Mapping[str, PromptParts], place: _Place
) -> dict[str, float | None]:
    """Return what training and fine-tuning the members cost, as far as is known."""
    costs: dict[str, float | None] = {}
    for own in parts.values():
        costs |= earlier_costs(own)
    for member in stages.values():
        known = is_recorded(member) or member in place.registry.names("register_classifiers")
        path = member if known else str(place.runs / Path(member).stem)
        trained = encoder_cost(path) if Path(path).is_dir() else 0.0
        if trained:
            costs["encoder"] = trained
    return costs


def _plan(
    kind: str,
    recipe: ResolvedRecipe,
    split: LabelledSplit,
    options: PromptOptions,
    members: Mapping[str, Classifier],
    costs: Mapping[str, float | None],
) -> RunPlan:
    described = {name: member.describe() for name, member in members.items()}
    manifest = {"limit": options.limit, "members": described}
    return RunPlan(kind, recipe.values, recipe.to_yaml(), split, manifest, costs)


class _Answers:
    """The labels that one member, or an ensemble, gives to the rows of a split."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = {label: number for number, label in enumerate(classes)}
        self._labels: list[int] = []
        self._shares: list[list[float] | None] = []
        self._costs: list[float] = []

    def add(self, prediction: Prediction | None) -> None:
        """Add a row; None: the member was not asked."""
        label = None if prediction is None else prediction.label
        known = None if prediction is None else prediction.probabilities
        cost = None if prediction is None else prediction.cost
        self._labels.append(-1 if label is None else self._classes[label])
        shares = None if known is None else [known.get(label, 0.0) for label in self._classes]
        self._shares.append(shares)
        self._costs.append(float("nan") if cost is None else cost)

    def table(self, split: LabelledSplit, name: str) -> RunTable:
        """Return the rows as those of a run."""
        examples, unknown = split.examples, [float("nan")] * len(self._classes)
        gold = class_numbers(pa.array(examples.labels, pa.string()), split.classes)
        shares = None
        if any(row is not None for row in self._shares):
            shares = np.array([row or unknown for row in self._shares], np.float64)
        answers = Labelling(np.array(self._labels, np.int64), shares)
        costs = np.array(self._costs, np.float64)
        known = None if np.isnan(costs).all() else costs
        return RunTable(name, split.classes, examples, gold, answers, cost=known)


class _CascadeSteps(RunSteps, Sink):
    """What the run of a cascade has besides: a threshold chosen on validation, and the judgement.

    Attributes:
        judged: the cascade, once all rows are labelled.
    """

    judged: JudgedCascade

    def __init__(
        self,
        settings: CascadeRecipe,
        members: Mapping[str, Classifier],
        split: LabelledSplit,
        place: _Place,
        options: PromptOptions,
    ) -> None:
        self._settings, self._members, self._split = settings, members, split
        self._place, self._options = place, options
        self._thresholds = settings.cascade.cuts
        self._explanation = "The threshold was given."
        self._tuning_cost: float | None = 0.0
        self._asked: list[bool] = []
        self._first, self._last = _Answers(split.classes), _Answers(split.classes)
        self._writer: RunWriter | None = None

    def untuned(self) -> Cascade:
        """Return the cascade; where a threshold is to be chosen, one for the checks before."""
        thresholds = self._thresholds or (1.0,) * (len(self._members) - 1)
        return Cascade(self._members, thresholds)

    def begin(self, session: RequestSession) -> Classifier | None:
        """Choose the threshold where none is given."""
        tune = self._settings.cascade.tune
        if tune is None:
            return None
        self._thresholds = (self._tuned(tune, session),)
        return self.untuned()

    def _tuned(self, tune: Tuning, session: RequestSession) -> float:
        if tune.encoder is not None and tune.llm is not None:
            ensemble = gather([read_run(tune.encoder), read_run(tune.llm)])
        else:
            ensemble = self._asked_for_tuning(session)
        known = routed(ensemble).select(ensemble.scored)
        if not len(known):
            raise InputError("No text of the validation split has a gold label to tune on.")
        point = choose(known, Aim(tune.goal, tune.target))
        self._explanation = (
            f"Chosen on {len(known):,} validation texts, where it sends {point.share:.1%} to the "
            f"LLM and macro-F1 is {point.macro_f1:.4f}."
        )
        return point.threshold

    def _asked_for_tuning(self, session: RequestSession) -> Ensemble:
        """Ask both members about the whole validation split."""
        stages = self._settings.cascade.stages
        place = dataclasses.replace(self._place, split="validation")
        parts = _asked_parts(stages, place)
        split = split_to_label(_one(parts, stages), self._options.limit)
        tables = []
        for name, member in stages.items():
            classifier, answers = place.member(member, split), _Answers(split.classes)
            classifier.prepare(session)
            for _, prediction in predicted(classifier, split_rows(split), session):
                answers.add(prediction)
                cost, spent = prediction.cost, self._tuning_cost
                self._tuning_cost = None if cost is None or spent is None else spent + cost
            tables.append(answers.table(split, name))
        return gather(tables)

    def sink(self, writer: RunWriter) -> Sink:
        """Return itself: it passes the rows on."""
        self._writer = writer
        return self

    def add(self, example: Example, gold: str | None, prediction: Prediction) -> None:
        """Count a row, and write it with what the first member predicts."""
        assert self._writer is not None
        name = next(iter(self._members))
        sure = (prediction.answered_by or "").partition("/")[0] == name
        first = prediction if sure else (prediction.adviser or Prediction(None))
        self._asked.append(not sure)
        self._first.add(first)
        self._last.add(None if sure else prediction)
        shown = dataclasses.replace(prediction, adviser=first)
        self._writer.add(example, gold, shown)

    def results(self) -> dict[str, Any]:
        """Judge the cascade."""
        assert self._thresholds is not None
        first, *others = self._settings.cascade.stages.values()
        tables = [
            self._first.table(self._split, first),
            self._last.table(self._split, " → ".join(others)),
        ]
        asked, tune = np.array(self._asked, bool), self._settings.cascade.tune
        aim = Aim(tune.goal, tune.target) if tune else Aim()
        choice = CascadeChoice(threshold=self._thresholds[0], aim=aim)
        self.judged = judge_answers(
            gather(tables), asked, choice, self._explanation, tuned=tune is not None
        )
        found = self.judged.to_json() | {"thresholds": list(self._thresholds)}
        return {
            "metrics": {"cascade": _summary(self.judged)},
            "files": {CASCADE: found},
            "costs": {"tuning": self._tuning_cost},
        }


class _VoteSteps(RunSteps, Sink):
    """What the run of a vote has besides: every member's label, and the judgement.

    Attributes:
        judged: the vote, once all rows are labelled.
    """

    judged: JudgedVote

    def __init__(
        self,
        paths: tuple[str, ...],
        members: Mapping[str, Classifier],
        split: LabelledSplit,
        ties: Ties,
    ) -> None:
        self._paths, self._split, self._ties = paths, split, ties
        self._members = [_Answers(split.classes) for _ in members]
        self._own = _Answers(split.classes)
        self._cost: float | None = 0.0
        self._writer: RunWriter | None = None

    def sink(self, writer: RunWriter) -> Sink:
        """Return itself: it passes the rows on."""
        self._writer = writer
        return self

    def add(self, example: Example, gold: str | None, prediction: Prediction) -> None:
        """Count a row, and write it with the votes."""
        assert self._writer is not None
        votes = prediction.votes or (None,) * len(self._members)
        for member, vote_of in zip(self._members, votes, strict=True):
            member.add(Prediction(vote_of))
        self._own.add(prediction)
        spent, cost = self._cost, prediction.cost
        self._cost = None if spent is None or cost is None else spent + cost
        self._writer.add(example, gold, prediction, votes=list(votes))

    def results(self) -> dict[str, Any]:
        """Judge the vote."""
        pairs = zip(self._members, self._paths, strict=True)
        ensemble = gather([answers.table(self._split, path) for answers, path in pairs])
        counted = vote([m.answers for m in ensemble.members], len(ensemble.classes))
        own = self._own.table(self._split, "vote").answers.labels
        outcome = VoteCount(own, counted.unanimous, counted.tied)
        cost = None if self._cost is None else self._cost / len(own) * 1000
        self.judged = judge_vote(ensemble, self._ties, counted=outcome, cost=cost)
        return {
            "metrics": {"vote": _counted(self.judged)},
            "files": {VOTE: self.judged.to_json()},
        }


def _judge_recorded(
    settings: CascadeRecipe, recipe: ResolvedRecipe, run: RunFolder, encoder: str
) -> JudgedCascade:
    """Judge and write a cascade whose last member has answered already."""
    if settings.dataset is not None:
        raise InputError("A recorded LLM has answered about its own dataset: leave dataset out.")
    tune, llm = settings.cascade.tune, list(settings.cascade.stages.values())[1]
    tuned_on = None
    if tune is not None and tune.encoder is not None and tune.llm is not None:
        tuned_on = gather([read_run(tune.encoder), read_run(tune.llm)])
    aim, cuts = Aim(tune.goal, tune.target) if tune else Aim(), settings.cascade.cuts
    choice = CascadeChoice(cuts[0] if cuts else None, tuned_on, aim)
    ensemble = gather([read_run(encoder), read_run(llm)])
    judged = judge_cascade(ensemble, choice)
    with run.locked(new=run.status == ""):
        write_cascade(run, ensemble, judged, recipe.values)
    return judged


def recorded_recipe(judged: JudgedCascade, tune: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the recipe of a cascade of two recorded runs, ready to run again.

    Args:
        judged: the cascade.
        tune: the runs that its threshold was chosen on, if it was on others.
    """
    cascade: dict[str, Any] = {"members": [judged.encoder, judged.llm]}
    if judged.how == "given":
        cascade["thresholds"] = [judged.threshold]
    else:
        cascade["tune"] = {"goal": judged.aim.goal, "target": judged.aim.target}
        if tune is not None:
            cascade["tune"] |= dict(zip(("encoder", "llm"), tune, strict=True))
    return {"kind": "cascade", "cascade": cascade}


def write_cascade(
    run: RunFolder, ensemble: Ensemble, judged: JudgedCascade, recipe: Mapping[str, Any]
) -> None:
    """Write the run of a cascade of two recorded runs.

    Args:
        run: the folder, locked.
        ensemble: the encoder's run and the LLM's.
        judged: the cascade of them.
        recipe: what it was made from.
    """
    encoder, llm = ensemble.members
    costs = {item: cost for item, cost in _known_costs(llm).items() if item != "llm"}
    if Path(encoder.name).is_dir():
        trained = encoder_cost(encoder.name)
        costs |= {"encoder": trained} if trained else {}
    shares = chosen_probabilities(encoder, llm, judged.asked)
    last, first = _predictions(llm), _predictions(encoder)
    with RunWriter(run, _recorded_plan("cascade", ensemble, recipe, costs)) as writer:
        writer.begin(resume=bool(run.status))
        answers = zip(judged.labels.tolist(), judged.asked.tolist(), first, last, strict=True)
        for row, (label, asked, sure, given) in enumerate(answers):
            answered = given if asked else dataclasses.replace(sure, cost=0.0, paid=0.0)
            writer.add(
                *_example(ensemble, row),
                dataclasses.replace(
                    answered,
                    label=ensemble.classes[label] if label >= 0 else None,
                    probabilities=_shares(ensemble.classes, shares[row]),
                    answered_by="llm" if asked else "encoder",
                    adviser=sure,
                ),
            )
        metrics = {"cascade": _summary(judged)}
        writer.finish(metrics=metrics, files={CASCADE: judged.to_json()})


def write_vote(
    run: RunFolder,
    ensemble: Ensemble,
    judged: JudgedVote,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Write the run of a vote of recorded runs.

    Args:
        run: the folder, locked.
        ensemble: the runs that voted.
        judged: their vote.
        recipe: what it was made from; without it, one that names the runs.
    """
    named = {"members": list(judged.members), "ties": judged.ties}
    costs: dict[str, float | None] = {}
    for number, member in enumerate(ensemble.members, 1):
        for item, cost in _known_costs(member).items():
            costs[f"{item} {number}"] = cost
    values = dict(recipe or {"kind": "vote", "vote": named})
    names = [*ensemble.classes, None]
    votes = np.stack([m.answers.labels for m in ensemble.members], 1).tolist()
    with RunWriter(run, _recorded_plan("vote", ensemble, values, costs)) as writer:
        writer.begin(resume=bool(run.status))
        for row, (label, given) in enumerate(zip(judged.labels.tolist(), votes, strict=True)):
            said = [names[number] for number in given]
            writer.add(*_example(ensemble, row), Prediction(names[label]), votes=said)
        metrics = {"vote": _counted(judged)}
        writer.finish(metrics=metrics, files={VOTE: judged.to_json()})


def _recorded_plan(
    kind: str,
    ensemble: Ensemble,
    recipe: Mapping[str, Any],
    costs: Mapping[str, float | None],
) -> RunPlan:
    """Return the plan of a run over the split that the members labelled, as far as one knows it."""
    described = [m.manifest["dataset"] for m in ensemble.members if "dataset" in m.manifest]
    known: Mapping[str, Any] = described[0] if described else {}
    name, split = known.get("dataset", "recorded"), known.get("split", "test")
    labelled = LabelledSplit(ensemble.examples, ensemble.classes, name, split)
    return RunPlan(kind, recipe, dump_yaml(dict(recipe)), labelled, costs=costs)


def _example(ensemble: Ensemble, row: int) -> tuple[Example, str | None]:
    table = ensemble.examples.table
    cells = {name: table.column(name)[row].as_py() for name in ("id", "text", "label", "source")}
    return Example(cells["text"], cells["id"], cells["source"]), cells["label"]


def _predictions(table: RunTable) -> Iterator[Prediction]:
    """Yield what a run recorded of each row."""
    names: Sequence[str | None] = [*table.classes, None]
    raw = None if table.raw is None else table.raw.to_pylist()
    for row, label in enumerate(table.answers.labels.tolist()):
        shares = table.answers.probabilities
        cost = float("nan") if table.cost is None else float(table.cost[row])
        yield Prediction(
            names[label],
            None if shares is None else _shares(table.classes, shares[row]),
            cost=None if np.isnan(cost) else cost,
            paid=0.0,
            usage=None if table.tokens is None else Usage(*map(int, table.tokens[row])),
            answer=None if raw is None else raw[row],
        )


def _shares(classes: tuple[str, ...], row: NDArray[np.float64]) -> dict[str, float] | None:
    return None if np.isnan(row).any() else dict(zip(classes, row.tolist(), strict=True))


def _summary(judged: JudgedCascade) -> dict[str, Any]:
    return {
        "threshold": judged.threshold,
        "how": judged.how,
        "calls": judged.calls,
        "share_of_calls": judged.share,
    }


def _counted(judged: JudgedVote) -> dict[str, Any]:
    return {"ties": judged.ties, "unanimous": judged.unanimous, "tied": judged.tied}


def _known_costs(member: RunTable) -> dict[str, float | None]:
    return dict(member.manifest.get("cost_usd") or {})


def load_ensemble(
    recipe: ResolvedRecipe, registry: Registry, load: Load, threshold: float | None = None
) -> Cascade | Vote:
    """Return the classifier of a recipe of kind cascade or vote, for any text.

    Args:
        recipe: of the ensemble.
        registry: where to look for components.
        load: loads a member.
        threshold: that was chosen in a run of the recipe.

    Raises:
        InputError: the recipe is wrong, a member is missing, or its threshold is not chosen yet.
    """
    if kind_of(recipe) == "vote":
        settings = vote_settings(recipe, registry).vote
        members = {name: load(member) for name, member in member_names(settings.members).items()}
        return Vote(members, settings.ties)
    cascade = cascade_settings(recipe, registry).cascade
    cuts = cascade.cuts or (None if threshold is None else (threshold,))
    if cuts is None:
        raise InputError(
            f"The threshold of {recipe.name} is chosen when it is run: sentikit cascade --recipe "
            f"{recipe.name}; then give that run."
        )
    return Cascade({name: load(member) for name, member in cascade.stages.items()}, cuts)
