"""A whole training run: from a recipe's parts to a finished run folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batches import TokenizedTexts
from sentikit.classifiers.encoder import most_positions
from sentikit.classifiers.model_folder import ModelDescription, save_model
from sentikit.classifiers.prediction import fit_temperature, softmax
from sentikit.classifiers.torch_model import SentimentModel
from sentikit.datasets.examples import Examples
from sentikit.devices import choose_precision, set_threads
from sentikit.files import remove_leftovers
from sentikit.processes.launching import job_id
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import JsonLinesLog, RunFolder
from sentikit.runs.manifest import command_line, describe_split, now, versions
from sentikit.runs.results import Results, judge
from sentikit.tracking import TrackedRun
from sentikit.training.checkpoints import CheckpointFolder, TrainingState
from sentikit.training.data import (
    EmbeddedTexts,
    HeadOnly,
    Labelled,
    Splits,
    embed,
    load_splits,
    tokenize_examples,
)
from sentikit.training.engine import (
    check_alike,
    is_out_of_memory,
    out_of_memory,
    step_plan,
)
from sentikit.training.evaluation import CrossEntropy, class_weights, shared_logits
from sentikit.training.parameters import freeze, parameter_groups
from sentikit.training.reporting import (
    ConsoleJournal,
    EpochDialogue,
    SilentJournal,
    TrackedJournal,
    read_line,
    tell,
)
from sentikit.training.task import remarks
from sentikit.training.trainer import Trainer

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from sentikit.classifiers.torch_model import SentimentModel
    from sentikit.training.recipe import TrainParts
    from sentikit.training.settings import LoopSettings


@dataclass(frozen=True)
class JobOptions:
    """What a user decides at the command line and not in the recipe.

    Attributes:
        device: auto, cpu, cuda, …
        threads: CPU threads of this process, or None.
        resume: go on from the run's last checkpoint.
        stop_requested: asked after every step.
        interactive: ask at each epoch's end what to change.
    """

    device: str = "auto"
    threads: int | None = None
    resume: bool = False
    stop_requested: Callable[[], bool] = lambda: False
    interactive: bool = False


@dataclass(frozen=True)
class FinishedTraining:
    """What a training run came to.

    Attributes:
        path: the run's folder.
        state: where training ended.
        results: on the test split, or on validation where there is none.
        split: which split that was.
    """

    path: Path
    state: TrainingState
    results: Results
    split: str


def train(parts: TrainParts, path: Path, options: JobOptions) -> FinishedTraining:
    """Train, keep the best epoch, predict the test split, and leave a run in `path`.

    Raises:
        Interrupted: the user asked to stop; the run can be resumed.
        InputError: the data or the recipe cannot be used; nothing is written.
        SentikitError: the disk failed, or the loss became NaN at once.
    """
    set_threads(options.threads)
    parts.engine.start(options.device)
    try:
        splits = load_splits(parts)
        identity = run_identity(parts.recipe.values, parts.training, splits)
        check_alike(parts.engine, identity)
        run = RunFolder(path)
        lock = run.locked() if parts.engine.is_main_process else contextlib.nullcontext()
        with lock:
            return _Job(parts, run, splits, identity, options).run()
    finally:
        parts.engine.finish()


class _Job:
    """The steps of a training run, in order."""

    def __init__(
        self,
        parts: TrainParts,
        run: RunFolder,
        splits: Splits,
        identity: str,
        options: JobOptions,
    ) -> None:
        self.parts, self.folder, self.splits, self.options = parts, run, splits, options
        self.identity = identity
        self.engine = parts.engine
        self.classes = parts.dataset.scheme.classes
        self.checkpoints = CheckpointFolder(
            run.path / run_folder.CHECKPOINTS, parts.training.checkpoints.keep
        )
        self.log = JsonLinesLog(run.path / run_folder.LOG)
        self.max_length = parts.encoder_options.max_length
        self.inputs: dict[str, TokenizedTexts | EmbeddedTexts] = {}
        self.frozen_weights: dict[str, Tensor] = {}

    def run(self) -> FinishedTraining:
        """Train and write everything."""
        tokenizer = self.parts.encoder.load_tokenizer()
        model = build_model(self.parts, len(self.classes))
        notes = self._cut_texts(model)
        trainer = self._trainer(model, tokenizer)
        notes += [*remarks(trainer), *self.parts.dataset.warnings()]
        state = self._state(trainer)
        self._begin(trainer, state)
        with self._statuses(), self._journal(state) as trainer.journal:
            for note in notes:
                trainer.journal.say(note)
            if state.step:
                trainer.journal.say(f"Going on after step {state.step:,}.")
            finished = self._finish(trainer.run(state), tokenizer, model)
            trainer.journal.scored(finished.results.metrics(finished.split))
            return finished

    def _cut_texts(self, model: SentimentModel) -> list[str]:
        """Cut texts where the encoder's positions end, and say so."""
        most, wanted = most_positions(model.encoder), self.max_length
        if most is None or wanted <= most:
            return []
        self.max_length = most
        return [
            f"encoder.max_length is {wanted}; this encoder reads {most} word pieces, and longer "
            "texts are cut there."
        ]

    def _trainer(self, model: SentimentModel, tokenizer: PreTrainedTokenizerBase) -> Trainer:
        training = self.parts.training
        freeze(model, training.finetune_layers)
        groups = parameter_groups(model, training)
        precision = choose_precision(training.precision, self.engine.device)
        plan = step_plan(training, self.engine, precision)
        self.inputs = {
            name: tokenize_examples(examples, tokenizer, self.max_length)
            for name, examples in self.splits.items()
        }
        self.engine.prepare(self._trainable(model, precision), groups, plan)
        train = self._labelled("train", self.splits.train)
        weights = class_weights(training.class_weights, train.gold, self.classes)
        return Trainer(
            engine=self.engine,
            groups=groups,
            plan=plan,
            settings=training,
            train=train,
            validation=self._labelled("validation", self.splits.validation),
            classes=self.classes,
            objective=CrossEntropy(train.gold, weights, training.label_smoothing),
            checkpoints=self.checkpoints,
            journal=SilentJournal(),
            stop_requested=self.options.stop_requested,
            dialogue=EpochDialogue(read_line, tell) if self.options.interactive else None,
        )

    def _trainable(self, model: SentimentModel, precision: str) -> nn.Module:
        """Return what the engine trains: the model, or its head over texts embedded once."""
        if self.parts.training.finetune_layers != "none":
            return model
        model.to(self.engine.device)
        self.inputs = {
            name: embed(model, tokens, self.engine, precision)
            for name, tokens in self.inputs.items()
            if isinstance(tokens, TokenizedTexts)
        }
        encoder = model.cpu().encoder.state_dict()
        self.frozen_weights = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
        return HeadOnly(model.head)

    def _state(self, trainer: Trainer) -> TrainingState:
        wanted = self.options.resume and self.engine.is_main_process
        checkpoint = self.checkpoints.latest(self.identity, tell) if wanted else None
        return trainer.restore(checkpoint) or TrainingState(self.identity)

    def _begin(self, trainer: Trainer, state: TrainingState) -> None:
        """Write what is known before the first step."""
        if not self.engine.is_main_process:
            return
        self.log.keep(state.step, state.epoch)
        remove_leftovers(self.folder.path / run_folder.MODEL)
        if not self.options.resume:
            self.folder.update_manifest(
                kind="train", started=now(), status=run_folder.RUNNING, job=job_id()
            )
        self.folder.write_recipe(self.parts.recipe.to_yaml())
        prints = {
            name: describe_split(
                self.parts.dataset_for(name).name, name, len(examples), examples.fingerprint()
            )
            for name, examples in self.splits.items()
        }
        self.folder.update_manifest(
            status=run_folder.RUNNING,
            job=job_id(),
            recipe=self.parts.recipe.values,
            command=command_line(),
            seed=self.parts.training.seed,
            data=prints,
            classes=list(self.classes),
            versions=versions(),
            device=str(self.engine.device),
            processes=self.engine.processes,
            precision=trainer.plan.precision,
        )

    @contextlib.contextmanager
    def _statuses(self) -> Iterator[None]:
        """Let the manifest say how the run ended, whatever happens."""
        try:
            yield
        except BaseException as error:
            if self.engine.is_main_process:
                self.folder.end(error)
            if is_out_of_memory(error):
                raise out_of_memory(error) from error
            raise

    def _journal(self, state: TrainingState) -> Any:
        if not self.engine.is_main_process:
            return contextlib.nullcontext(SilentJournal())
        bar = not self.options.interactive
        if not self.parts.trackers:
            return ConsoleJournal(self.log, bar)
        run = TrackedRun("train", self.folder.path, self.parts.recipe.values, state.step)
        return TrackedJournal(self.log, bar, self.parts.trackers, run)

    def _finish(
        self,
        state: TrainingState,
        tokenizer: PreTrainedTokenizerBase,
        model: SentimentModel,
    ) -> FinishedTraining:
        """Save the best model, predict, score; every process takes part in the passes."""
        weights = self.frozen_weights | self.engine.weights()
        split, examples = self.splits.items()[-1]
        logits = {
            name: shared_logits(self.engine, self.inputs[name], len(self.classes))
            for name in dict.fromkeys(["validation", split])  # in the same order everywhere
        }
        temperature = self._temperature(logits["validation"])
        results = judge(examples, softmax(logits[split]), self.parts.dataset.scheme)
        results = results.with_temperature(logits[split], temperature, "validation")
        if self.engine.is_main_process:
            save_model(
                self.folder.path / run_folder.MODEL,
                self._description(temperature),
                weights,
                self.parts.encoder,
                tokenizer,
                model.encoder,
            )
            self.folder.write_results(results, split)
            self._end(state, split, examples)
        return FinishedTraining(self.folder.path, state, results, split)

    def _labelled(self, split: str, examples: Examples) -> Labelled:
        gold = self.parts.dataset.scheme.numbers(examples.values("label"))
        return Labelled(self.inputs[split], gold)

    def _temperature(self, logits: NDArray[np.float32]) -> float:
        gold = self.parts.dataset.scheme.numbers(self.splits.validation.labels)
        return fit_temperature(logits, gold)

    def _description(self, temperature: float) -> ModelDescription:
        values, scheme = self.parts.recipe.values, self.parts.dataset.scheme
        head = {k: v for k, v in values["head"].items() if k != "pooling"}
        return ModelDescription(
            label_scheme=scheme.name,
            classes=scheme.classes,
            threshold=scheme.threshold,
            encoder=values["encoder"],
            head=head,
            pooling=self.parts.head_options.pooling,
            max_length=self.max_length,
            temperature=temperature,
        )

    def _end(self, state: TrainingState, split: str, examples: Examples) -> None:
        """Say in the manifest how training ended; checkpoints are of no more use."""
        name = self.parts.dataset_for(split).name
        self.folder.update_manifest(
            status=run_folder.FINISHED,
            finished=now(),
            dataset=describe_split(name, split, len(examples), examples.fingerprint()),
            best_epoch=state.best_epoch,
            epochs=state.epoch,
            steps=state.step,
            stopped=state.stopped or None,
            training_seconds=round(state.seconds, 3),
            cost_usd={},
        )
        self.checkpoints.clear()


def build_model(parts: TrainParts, classes: int) -> SentimentModel:
    """Build the pretrained encoder with a new head; the head's weights follow from the seed."""
    import torch

    backbone = parts.encoder.load_backbone()
    torch.manual_seed(parts.training.seed)
    head = parts.head.build_on(backbone.config, classes)
    return SentimentModel(backbone, head, parts.head_options.pooling)


def run_identity(values: Mapping[str, Any], training: LoopSettings, splits: Splits) -> str:
    """Hash what must be the same when a run is resumed: the recipe's parts and the data.

    How often to save, how steps run and when to stop may change.
    """
    fixed = {key: values.get(key) for key in ("dataset", "evaluation_dataset", "encoder", "head")}
    prints = {name: examples.fingerprint() for name, examples in splits.items()}
    text = json.dumps([fixed, training.deciding(), prints], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
