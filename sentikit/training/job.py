"""The training job: from a recipe's components to a finished run folder, or to its plan."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batches import TokenizedTexts, tokenize
from sentikit.classifiers.encoder import most_positions
from sentikit.classifiers.model_folder import ModelDescription, save_model
from sentikit.classifiers.plugin_classifier import fit_classifier
from sentikit.classifiers.prediction import predictions, softmax, trusted_temperature
from sentikit.datasets.examples import Examples
from sentikit.devices import choose_precision, set_threads
from sentikit.errors import InputError, SentikitError
from sentikit.files import remove_leftovers
from sentikit.metrics import metrics_for
from sentikit.processes.launching import job_id, process_count
from sentikit.registry import default_registry
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import LabelledSplit, RunFolder, describe_split
from sentikit.runs.writer import FinishedRun, RunPlan, RunWriter, SplitRows
from sentikit.scoring import calibration
from sentikit.terminal import LiveBar, working_on
from sentikit.tracking import TrackedRun
from sentikit.training.checkpoints import CheckpointFolder, TrainingState
from sentikit.training.data import (
    EmbeddedTexts,
    HeadOnly,
    Labelled,
    Splits,
    data_warnings,
    embed,
    labelled,
    load_splits,
    repeated_rows,
    steps_per_epoch,
    token_warnings,
)
from sentikit.training.engine import MemoryNeed, ModelSize, check_alike, out_of_memory, step_plan
from sentikit.training.evaluation import CrossEntropy, class_weights, shared_logits
from sentikit.training.model import check_shapes, freeze, merged_adapters, parameter_groups
from sentikit.training.recipe import ClassifierComponents, TrainComponents, TrainData
from sentikit.training.reporting import (
    EpochDialogue,
    SilentJournal,
    TrainingReporter,
    read_line,
    tell,
)
from sentikit.training.trainer import Trainer

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from sentikit.classifiers.torch_model import SentimentModel


@dataclass(frozen=True)
class JobOptions:
    """Options of the command line that are not part of the recipe."""

    device: str = "auto"
    threads: int | None = None
    resume: bool = False
    stop_requested: Callable[[], bool] = lambda: False
    interactive: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run.

    Attributes:
        path: the run's folder, which `sentikit.load` loads.
        results: scores on the test split, or on validation if there is none.
        best_epoch: the epoch whose weights were kept, from 1; None if a classifier trained itself.
    """

    path: Path
    results: FinishedRun
    best_epoch: int | None = None

    @property
    def split(self) -> str:
        """The split of the scores."""
        return self.results.split

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``; scores are fractions."""
        return self.results.metrics()

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas table with the scores of all rows and of each source."""
        return self.results.to_frame()

    def _repr_html_(self) -> str:
        return self.results._repr_html_()


def train(
    components: TrainComponents | ClassifierComponents, path: Path, options: JobOptions
) -> TrainedRun:
    """Train, keep the best epoch, predict the test split, and save the run in `path`.

    Raises:
        Interrupted: the user asked to stop; the run can be resumed.
        InputError: the data or the recipe are invalid; nothing is written.
        SentikitError: the disk failed, or the loss became NaN at once.
    """
    set_threads(options.threads)
    run = RunFolder(path)
    if isinstance(components, ClassifierComponents):
        with working_on("Reading the data", not options.quiet):
            splits = load_splits(components, validated=False)
        with run.locked():
            return _train_classifier(components, run, splits, options.quiet)
    components.engine.start(options.device)
    shown = components.engine.is_main_process and not options.quiet
    try:
        with working_on("Reading the data", shown):
            splits = load_splits(components)
        prints = {name: examples.fingerprint() for name, examples in splits.items()}
        identity = components.identity(prints)
        check_alike(components.engine, identity)
        lock = run.locked() if components.engine.is_main_process else contextlib.nullcontext()
        with lock:
            return _Job(components, run, splits, identity, options).run()
    finally:
        components.engine.finish()


def _train_classifier(
    components: ClassifierComponents, run: RunFolder, splits: Splits, quiet: bool
) -> TrainedRun:
    """Train a plugin's classifier and save the run; it cannot resume, only start again."""
    if process_count() > 1:
        raise InputError("A classifier that trains itself uses one process. Leave out --nproc.")
    scheme = components.dataset.scheme
    plan = _run_plan(components, splits)
    with RunWriter(run, plan) as writer:
        writer.begin(resume=False, device="cpu", processes=1, precision="fp32")
        started = time.monotonic()
        tracked = TrackedRun("train", run.path, components.recipe.values)
        with TrainingReporter(tracked, components.trackers, False, quiet) as reporter:
            if plan.split.split == "train" and not quiet:
                reporter.say("There is no validation or test split, so training texts are scored.")
            warnings = data_warnings(splits, scheme.classes, 1)
            for warning in [*warnings, *components.dataset.warnings()]:
                reporter.say(warning)
            model = run.path / run_folder.MODEL
            texts = (splits.train, splits.validation)
            classifier = fit_classifier(
                components.registry, components.classifier, scheme, *texts, model
            )
            seconds = time.monotonic() - started
            writer.add_split(classifier.classify(row.example for row in SplitRows(plan.split)))
            finished = writer.finish(training_seconds=round(seconds, 3))
            reporter.metrics = finished.metrics()
    return TrainedRun(run.path, finished)


def _run_plan(components: TrainData, splits: Splits) -> RunPlan:
    prints = {
        name: describe_split(
            components.dataset_for(name).name,
            name,
            len(examples),
            examples.fingerprint(),
            components.dataset_for(name).loader.label_origin(),
        )
        for name, examples in splits.items()
    }
    split, examples = splits.items()[-1]
    scheme = components.dataset.scheme
    name = components.dataset_for(split).name
    return RunPlan(
        kind="train",
        recipe=components.recipe.values,
        recipe_text=components.recipe.to_yaml(),
        split=LabelledSplit(examples, scheme.classes, name, split, scheme.ordered),
        manifest={"job": job_id(), "seed": components.training.seed, "data": prints},
    )


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if full := out_of_memory(error):
            raise full from error
        raise


class _Job:
    def __init__(
        self,
        components: TrainComponents,
        run: RunFolder,
        splits: Splits,
        identity: str,
        options: JobOptions,
    ) -> None:
        self.components, self.folder, self.splits, self.options = components, run, splits, options
        is_main_process = components.engine.is_main_process
        self.writer = RunWriter(run if is_main_process else None, _run_plan(components, splits))
        assert splits.validation is not None
        self.validation, self.identity = splits.validation, identity
        self.engine = components.engine
        self.classes = components.dataset.scheme.classes
        self.checkpoints = CheckpointFolder(
            run.path / run_folder.CHECKPOINTS, components.training.checkpoints.keep
        )
        self.shown = is_main_process and not options.quiet
        self.max_length = components.encoder_options.max_length
        self.long_texts = components.encoder_options.long_texts
        self.notes: list[str] = []
        self.inputs: dict[str, TokenizedTexts | EmbeddedTexts] = {}
        self.frozen_weights: dict[str, Tensor] = {}

    def run(self) -> TrainedRun:
        with working_on("Loading the encoder", self.shown):
            tokenizer = self.components.encoder.load_tokenizer()
            model = self.components.build_model()
        batch_size = self.components.training.batch_size
        self.notes += data_warnings(self.splits, self.classes, batch_size)
        values = self.components.recipe.values
        names = {part: str(values[part]["name"]) for part in ("encoder", "head")}
        check_shapes(model, len(self.classes), names)
        self._limit_length(model)
        trainer = self._trainer(model, tokenizer)
        self.notes += [*trainer.warnings(), *self.components.dataset.warnings()]
        state = trainer.resume(self.identity, tell, self.options.resume)
        with _memory_errors(), self.writer:
            if not self.engine.is_main_process:
                trainer.announce(state, self.notes)
                return self._finish(trainer.run(state), tokenizer, model)
            remove_leftovers(self.folder.path / run_folder.MODEL)
            self.writer.begin(
                self.options.resume,
                device=str(self.engine.device),
                processes=self.engine.processes,
                precision=trainer.plan.precision,
            )
            self._write_recipe(state)
            shown = not (self.options.interactive or self.options.quiet)
            run = TrackedRun("train", self.folder.path, values, state.step)
            with TrainingReporter(
                run, self.components.trackers, shown, self.options.quiet
            ) as reporter:
                trainer.journal = reporter
                trainer.announce(state, self.notes)
                finished = self._finish(trainer.run(state), tokenizer, model)
                reporter.metrics = finished.metrics
                return finished

    def _limit_length(self, model: SentimentModel) -> None:
        most, wanted = most_positions(model.encoder), self.max_length
        if most is not None and wanted > most:
            self.max_length = most
            self.notes.append(
                f"encoder.max_length is {wanted}, but this encoder has {most} positions; "
                f"{most} is used."
            )

    def _trainer(self, model: SentimentModel, tokenizer: PreTrainedTokenizerBase) -> Trainer:
        training = self.components.training
        freeze(model, training.finetune_layers)
        groups = parameter_groups(model, training)
        precision = choose_precision(training.precision, self.engine.device)
        plan = step_plan(training, self.engine, precision)
        tokens = {}
        with LiveBar("texts", self.shown) as bar:
            for name, examples in self.splits.items():
                bar.update(0, len(examples), f"Tokenising {name}")
                texts = _counted(examples, bar)
                tokens[name] = tokenize(texts, tokenizer, self.max_length, self.long_texts)
        self.inputs = dict(tokens)
        self.notes += token_warnings(tokens, tokenizer, self.max_length)
        self.engine.prepare(self._trainable(model, precision), groups, plan)
        train = self._labelled("train", self.splits.train)
        weights = class_weights(training.class_weights, train.gold, self.classes)
        return Trainer(
            engine=self.engine,
            groups=groups,
            plan=plan,
            settings=training,
            train=train,
            validation=self._labelled("validation", self.validation),
            classes=self.classes,
            objective=CrossEntropy(train.gold, weights, training.label_smoothing),
            checkpoints=self.checkpoints,
            journal=SilentJournal(),
            stop_requested=self.options.stop_requested,
            changed=self._write_recipe,
            metrics=metrics_for(self.components.dataset.scheme, default_registry()),
            dialogue=EpochDialogue(read_line, tell) if self.options.interactive else None,
        )

    def _trainable(self, model: SentimentModel, precision: str) -> nn.Module:
        """Return the module to train: the model, or its head over precomputed embeddings."""
        if self.components.training.finetune_layers != "none" or model.pooling == "head":
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

    def _write_recipe(self, state: TrainingState) -> None:
        """Write the recipe with the user's changes so far, so that it trains the same again."""
        values = self.components.recipe.values
        training = dict(values.get("training") or {})
        known = [c.model_dump(exclude_none=True) for c in self.components.training.changes]
        added = [change for change in state.changes if change not in known]
        if added:
            values = {**values, "training": {**training, "changes": [*known, *added]}}
        self.folder.write_recipe(replace(self.components.recipe, values=values).to_yaml())
        self.folder.update_manifest(recipe=values)

    def _finish(
        self, state: TrainingState, tokenizer: PreTrainedTokenizerBase, model: SentimentModel
    ) -> TrainedRun:
        """Save the best model, predict and score; every process takes part."""
        weights = self.frozen_weights | self.engine.weights()
        lora = self.components.encoder_options.lora
        if lora is not None:
            weights = merged_adapters(weights, lora)
        scheme, split = self.components.dataset.scheme, self.writer.plan.split.split
        logits = {
            name: shared_logits(self.engine, self.inputs[name], len(self.classes))
            for name in dict.fromkeys(["validation", split])  # in the same order everywhere
        }
        gold = scheme.numbers(self.validation.labels)
        temperature, warning = trusted_temperature(logits["validation"], gold)
        if warning and self.engine.is_main_process:
            tell(warning)
        if self.engine.is_main_process:
            save_model(
                self.folder.path / run_folder.MODEL,
                self._description(temperature),
                weights,
                self.components.encoder,
                tokenizer,
                model.encoder,
            )
        self.writer.add_split(predictions(softmax(logits[split]), scheme))
        results = self.writer.finish(
            self._calibrated(logits[split], temperature),
            best_epoch=state.best_epoch,
            epochs=state.epoch,
            steps=state.step,
            stopped=state.stopped or None,
            training_seconds=round(state.seconds, 3),
        )
        if self.engine.is_main_process:
            self.checkpoints.clear()
        return TrainedRun(self.folder.path, results, state.best_epoch)

    def _calibrated(self, logits: NDArray[np.float32], temperature: float | None) -> dict[str, Any]:
        if temperature is None:
            return {}
        gold = self.components.dataset.scheme.numbers(self.writer.plan.split.examples.labels)
        fitted = {"temperature": temperature, "fitted_on": "validation"}
        measured = calibration(gold, softmax(logits, temperature))
        return {"calibrated": fitted | asdict(measured)}

    def _labelled(self, split: str, examples: Examples) -> Labelled:
        gold = self.components.dataset.scheme.numbers(examples.values("label"))
        rows = None
        if split == "train":
            rows = repeated_rows(examples, self.components.training.oversample)
        return labelled(self.inputs[split], gold, rows)

    def _description(self, temperature: float | None) -> ModelDescription:
        values, scheme = self.components.recipe.values, self.components.dataset.scheme
        head = {k: v for k, v in values["head"].items() if k != "pooling"}
        return ModelDescription(
            label_scheme=scheme.name,
            classes=scheme.classes,
            ordered=scheme.ordered,
            threshold=scheme.threshold,
            encoder=values["encoder"],
            head=head,
            pooling=self.components.head_options.pooling,
            max_length=self.max_length,
            long_texts=self.long_texts,
            temperature=temperature,
        )


def _counted(examples: Examples, bar: LiveBar) -> Iterator[list[str]]:
    for batch in examples.batches():
        yield batch["text"]
        bar.advance(len(batch["text"]))


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training run.

    `counts` are examples by split and label, or the reason why they are unknown; `memory` is what
    one process needs, by the engine's ways to distribute the state. A classifier that trains itself
    has neither engine nor parameters.
    """

    recipe: str
    counts: dict[str, Any] | str
    processes: int
    engine: str = ""
    steps_per_epoch: int | None = None
    total_steps: int | None = None
    parameters: int = 0
    trained_parameters: int = 0
    groups: list[dict[str, Any]] = field(default_factory=list)
    memory: Mapping[str, MemoryNeed] = field(default_factory=dict)

    def to_text(self) -> str:
        lines = [self.recipe.rstrip(), ""]
        if self.engine:
            lines.append(f"engine          {self.engine}")
        if isinstance(self.counts, str):
            lines.append(f"examples        unknown: {self.counts}")
        else:
            for name, labels in self.counts.items():
                by_label = ", ".join(f"{label} {count:,}" for label, count in labels.items())
                lines.append(f"{name:<15} {sum(labels.values()):,} ({by_label})")
        if self.total_steps:
            lines.append(
                f"steps           {self.total_steps:,} ({self.steps_per_epoch:,} per epoch)"
            )
        if self.parameters:
            lines += [
                f"parameters      {self.parameters:,}, {self.trained_parameters:,} of them trained",
                f"memory          per process ({self.processes} in all), without activations",
                *(_memory_line(name, need) for name, need in self.memory.items()),
            ]
        return "\n".join([*lines, "Nothing was written."])


def _memory_line(name: str, need: MemoryNeed) -> str:
    sizes = {item: size / 2**20 for item, size in asdict(need).items() if size}
    spelled = ", ".join(f"{item} {size:,.0f}" for item, size in sizes.items())
    return f"  {name:<13} {need.total / 2**20:>7,.0f} MiB ({spelled})"


def plan_training(
    components: TrainComponents | ClassifierComponents, processes: int = 1
) -> TrainingPlan:
    """Plan a run without loading weights; the model is built on the meta device."""
    splits, recipe = _splits(components), components.recipe.to_yaml()
    counts = (
        splits if isinstance(splits, str) else _counts(splits, components.dataset.scheme.classes)
    )
    if isinstance(components, ClassifierComponents):
        return TrainingPlan(recipe, counts, processes)
    training, model = components.training, components.meta_model()
    freeze(model, training.finetune_layers)
    groups = [
        {
            "name": group.name,
            "parameters": sum(p.numel() for p in group.parameters.values()),
            "lr": group.lr,
            "weight_decay": group.weight_decay,
        }
        for group in parameter_groups(model, training)
    ]
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    epoch = None
    if isinstance(splits, Splits):
        rows = repeated_rows(splits.train, training.oversample)
        epoch = steps_per_epoch(len(rows), training.batch_size)
    return TrainingPlan(
        recipe,
        counts,
        processes,
        engine=type(components.engine).__name__,
        steps_per_epoch=epoch,
        total_steps=None if epoch is None else epoch * training.epochs,
        parameters=parameters,
        trained_parameters=trained,
        groups=groups,
        memory=components.engine.memory(
            ModelSize(parameters, trained, training.optimizer.moments), processes
        ),
    )


def _splits(components: TrainData) -> Splits | str:
    """Load the splits, or return why they are not available, which does not stop a plan."""
    try:
        return load_splits(components, validated=not isinstance(components, ClassifierComponents))
    except InputError:
        raise
    except SentikitError as error:
        return error.message


def _counts(splits: Splits, classes: Sequence[str]) -> dict[str, Any]:
    found = {name: Counter(examples.labels) for name, examples in splits.items()}
    return {name: {label: counts[label] for label in classes} for name, counts in found.items()}
