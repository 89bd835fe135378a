"""Cascades that answer now: the encoder reads every text, the LLM those it is not sure of."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentikit.ensembles.aim import Aim
from sentikit.ensembles.cascade import choose, confidence, sent
from sentikit.ensembles.judged import JudgedCascade
from sentikit.ensembles.judging import judge_answers, judge_cascade
from sentikit.ensembles.members import Team, gather
from sentikit.ensembles.parts import cascade_settings, is_recorded, member_path
from sentikit.ensembles.recipe import CascadeRecipe, Tuning
from sentikit.ensembles.thresholds import CascadeChoice, routed
from sentikit.ensembles.writing import write_cascade
from sentikit.errors import InputError
from sentikit.labelling.job import other_settings, refuse_changed
from sentikit.labelling.prompting import PromptOptions, prompt, refuse_missing, split_to_label
from sentikit.labelling.run_writer import spent_usd
from sentikit.llm.adviser import in_classes, load_encoder, recorded_predictions
from sentikit.llm.recipe import PromptParts, prompt_parts
from sentikit.llm.settings import StrategyOptions
from sentikit.llm.strategy import Needs
from sentikit.recipe.resolving import ResolvedRecipe, differing_keys, resolve_recipe, resolve_values
from sentikit.registry import Registry
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import LabelledSplit, RunFolder, command_line, now
from sentikit.runs.reading import read_run
from sentikit.runs.table import Labelling, RunTable, class_numbers

#: The LLM's own runs inside a cascade's folder.
LLM, TUNING = "llm", "tuning"


def run_cascade(
    recipe: ResolvedRecipe,
    run: RunFolder,
    options: PromptOptions,
    registry: Registry,
    runs: Path,
) -> JudgedCascade:
    """Label a split with a cascade and leave a run; only texts that need it go to the LLM.

    Args:
        recipe: of kind cascade. An LLM that is a run or a file is taken as recorded.
        run: the folder. The LLM's own run lies inside, and may be resumed.
        options: limit, budget and failures of the LLM's part, and whether to go on with a run.
        registry: where to look for parts.
        runs: where a recipe's run is looked for.

    Raises:
        RequestsInterrupted: the user asked to stop; the run can be resumed.
        InputError: something the user gave cannot be used.
        SentikitError: the LLM's part failed; the run can be resumed.
    """
    settings = cascade_settings(recipe, registry)
    encoder = member_path(settings.cascade.encoder, runs, registry)
    if is_recorded(settings.cascade.llm):
        if options.limit is not None:
            raise InputError("A recorded LLM has answered already: leave --limit out.")
        return _recorded(settings, recipe, run, encoder)
    parts = _llm_parts(settings, registry)
    split = split_to_label(parts, options.limit)
    with run.locked(new=not options.resume):
        if options.resume:
            _refuse_changed(run, recipe)
        with _begun(run, recipe, options.resume):
            job = _LiveCascade(run, parts, encoder, options, registry)
            return job.run_all(split, settings, recipe)


def _recorded(
    settings: CascadeRecipe, recipe: ResolvedRecipe, run: RunFolder, encoder: str
) -> JudgedCascade:
    """Judge and write a cascade whose LLM has answered already."""
    if settings.dataset is not None:
        raise InputError("A recorded LLM has answered about its own dataset: leave dataset out.")
    tune = settings.cascade.tune
    tuned_on = None
    if tune is not None and tune.encoder is not None and tune.llm is not None:
        tuned_on = gather([read_run(tune.encoder), read_run(tune.llm)])
    aim = Aim(tune.goal, tune.target) if tune else Aim()
    choice = CascadeChoice(settings.cascade.threshold, tuned_on, aim)
    team = gather([read_run(encoder), read_run(settings.cascade.llm)])
    judged = judge_cascade(team, choice)
    with run.locked(new=run.status == ""):
        write_cascade(run, team, judged, recipe.values)
    return judged


def _refuse_changed(run: RunFolder, recipe: ResolvedRecipe) -> None:
    """Refuse to go on with a cascade of other settings: its LLM may have answered other rows."""
    changed = differing_keys(run.manifest.get("recipe", {}), recipe.values)
    changed = [key for key in changed if key != "description"]
    if changed:
        raise other_settings(run.path, changed)


@contextlib.contextmanager
def _begun(run: RunFolder, recipe: ResolvedRecipe, resume: bool) -> Iterator[None]:
    """Let the manifest say that the run is under way, and how it ended, whatever happens.

    What is refused before an LLM was asked leaves nothing behind.
    """
    begun = {} if resume else {"kind": "cascade", "started": now()}
    run.update_manifest(**begun, status=run_folder.RUNNING)
    run.update_manifest(recipe=recipe.values, command=command_line())
    run.write_recipe(recipe.to_yaml())
    try:
        yield
    except BaseException as error:
        asked = any((run.path / part).exists() for part in (LLM, TUNING))
        if isinstance(error, InputError) and not (resume or asked):
            for name in (run_folder.MANIFEST, run_folder.RECIPE):
                (run.path / name).unlink(missing_ok=True)
        else:
            run.end(error)
        raise


def _llm_parts(settings: CascadeRecipe, registry: Registry) -> PromptParts:
    """Make the parts of the LLM's recipe, on the cascade's own dataset where it names one."""
    resolved = resolve_recipe(settings.cascade.llm, registry=registry)
    values = resolved.values | {"split": settings.split}
    if settings.dataset is not None:
        values |= {"dataset": settings.dataset}
    parts = prompt_parts(resolve_values(values, resolved.name, settings.cascade.llm), registry)
    refuse_missing(parts)
    return parts


class _LiveCascade:
    """The steps of a live cascade."""

    def __init__(
        self,
        run: RunFolder,
        parts: PromptParts,
        encoder: str,
        options: PromptOptions,
        registry: Registry,
    ) -> None:
        self.run, self.parts, self.encoder = run, parts, encoder
        self.options, self.registry = options, registry
        self.paid = 0.0
        self.tuning_cost: float | None = 0.0

    def run_all(
        self, split: LabelledSplit, settings: CascadeRecipe, recipe: ResolvedRecipe
    ) -> JudgedCascade:
        """Choose the threshold where it is not given, label the split, write the run."""
        tune = settings.cascade.tune
        threshold = settings.cascade.threshold
        explanation = "The threshold was given."
        # First, for it may be that the encoder's records do not fit, and calls cost money.
        opinion = self._opinion(split)
        if tune is not None:
            threshold, explanation = self._tune(tune)
        assert threshold is not None
        sure = confidence(opinion, self.encoder)
        asked = sent(sure, threshold)
        llm = self._answers(self.parts, split, np.flatnonzero(asked), LLM)
        encoder = self._table(split, self.encoder, opinion)
        team = gather([encoder, llm])
        aim = Aim(tune.goal, tune.target) if tune else Aim()
        choice = CascadeChoice(threshold=threshold, aim=aim)
        judged = judge_answers(team, asked, choice, explanation, tuned=tune is not None)
        write_cascade(self.run, team, judged, recipe.values)
        if self.tuning_cost != 0:
            costs = self.run.manifest["cost_usd"] | {"tuning": self.tuning_cost}
            self.run.update_manifest(cost_usd=costs)
        return judged

    def _tune(self, tune: Tuning) -> tuple[float, str]:
        """Choose the threshold on recorded runs, or by asking both about the validation split."""
        aim = Aim(tune.goal, tune.target)
        if tune.encoder is not None and tune.llm is not None:
            team = gather([read_run(tune.encoder), read_run(tune.llm)])
        else:
            team = self._asked_for_tuning()
        known = routed(team).select(team.scored)
        if not len(known):
            raise InputError("No text of the validation split has a gold label to tune on.")
        point = choose(known, aim)
        return point.threshold, (
            f"Chosen on {len(known):,} validation texts, where it sends {point.share:.1%} to the "
            f"LLM and macro-F1 is {point.macro_f1:.4f}."
        )

    def _asked_for_tuning(self) -> Team:
        """Ask both classifiers about the validation split."""
        parts = dataclasses.replace(self.parts, split="validation")
        split = split_to_label(parts, self.options.limit)
        encoder = self._table(split, self.encoder, self._opinion(split))
        llm = self._answers(parts, split, np.arange(len(split.examples)), TUNING)
        self.tuning_cost = None if llm.cost is None else float(np.nansum(llm.cost))
        return gather([encoder, llm])

    def _opinion(self, split: LabelledSplit) -> Labelling:
        """Return what the encoder says of every text: recorded, or by asking its model."""
        needs = Needs(label=True, probabilities=True)
        options = StrategyOptions(encoder=self.encoder)
        recorded = recorded_predictions(options, split, needs, self.registry)
        if recorded is not None:
            return recorded
        classifier = load_encoder(self.encoder, self.registry)
        shares = classifier.predict_proba(split.examples.values("text"))
        found = Labelling(shares.argmax(1), shares)
        return in_classes(found, classifier.labels, split.classes, self.encoder)

    def _answers(
        self, parts: PromptParts, split: LabelledSplit, rows: NDArray[np.int64], name: str
    ) -> RunTable:
        """Ask the LLM about some rows; return all rows, those not asked without an answer."""
        table = self._table(split, f"{self.run.path}/{name}", None)
        if not len(rows):
            return table
        own = RunFolder(self.run.path / name)
        chosen = dataclasses.replace(split, examples=split.examples.select(rows))
        if own.status == run_folder.FINISHED:
            refuse_changed(own, parts.recipe.values, chosen)
        else:
            budget = self.options.max_cost
            options = dataclasses.replace(
                self.options,
                resume=bool(own.status),
                max_cost=None if budget is None else max(1e-9, budget - self.paid),
            )
            prompt(parts, own.path, options, self.registry, chosen)
        self.paid += spent_usd(own)
        return _spread(read_run(own.path), table, rows)

    def _table(self, split: LabelledSplit, name: str, answers: Labelling | None) -> RunTable:
        examples = split.examples
        nothing = Labelling(np.full(len(examples), -1, np.int64))
        gold = class_numbers(pa.array(examples.labels, pa.string()), split.classes)
        return RunTable(name, split.classes, examples, gold, answers or nothing)


def _spread(answered: RunTable, table: RunTable, rows: NDArray[np.int64]) -> RunTable:
    """Put the answers to some rows into a table of all."""
    place = np.full(len(table), -1, np.int64)
    place[rows] = np.arange(len(rows))
    there = place >= 0
    own = answered.answers.probabilities
    known = None if own is None else np.where(there[:, None], own[place], np.nan)
    taken = pa.array(place, mask=~there)
    return dataclasses.replace(
        table,
        answers=Labelling(np.where(there, answered.answers.labels[place], -1), known),
        raw=None if answered.raw is None else answered.raw.take(taken),
        cost=None if answered.cost is None else np.where(there, answered.cost[place], np.nan),
        tokens=None
        if answered.tokens is None
        else np.where(there[:, None], answered.tokens[place], 0),
        manifest=answered.manifest,
    )
