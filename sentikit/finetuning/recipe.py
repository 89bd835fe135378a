"""Recipes of kind `finetune`: their schema, components and training conversations."""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sentikit.chat import Message
from sentikit.classifiers.classifier import Example, Session
from sentikit.classifiers.prediction import Prediction
from sentikit.components import (
    ComponentSettings,
    Problem,
    Section,
    make_component,
    split_options,
    validate,
)
from sentikit.errors import InputError, SentikitError
from sentikit.files import atomic_writer
from sentikit.finetuning.fine_tuner import FineTuner
from sentikit.llm.backend import LLMBackend
from sentikit.llm.classifier import messages_for, prompt_input, split_context
from sentikit.llm.context import PromptContext
from sentikit.llm.recipe import StrategyComponents, check_strategy_components
from sentikit.llm.strategy import RetrievedExample
from sentikit.recipe.resolving import (
    ResolvedRecipe,
    checked_components,
    needed_recipe,
    resolve_recipe,
)
from sentikit.registry import Registry, default_registry
from sentikit.runs.writer import SplitRows
from sentikit.tracking import Tracker, Trackers, check_trackers
from sentikit.training.engine import Engine, check_engine

if TYPE_CHECKING:
    from sentikit.runs.folder import LabelledSplit


class FinetuneOptions(ComponentSettings):
    """Keys of the ``finetune`` section that work with every provider."""

    train: str = Field("train", description="the training split")
    validation: str | None = Field(
        "validation", description="the split for the validation loss; null: none"
    )
    training_price: float | None = Field(
        None, ge=0, description="USD per million tokens and epoch; default: from models.yaml"
    )
    context: int | None = Field(
        None, ge=1, description="maximum tokens of an example; default: from models.yaml"
    )


class FinetuneRecipe(ComponentSettings):
    """Fine-tune an LLM: ``kind: finetune``."""

    kind: Literal["finetune"] = "finetune"
    description: str = Field("", description="one line for `sentikit recipes list`")
    dataset: Section = Field(description="a dataset's name and settings")
    strategy: Section = Field(
        default_factory=lambda: {"name": "zero-shot"},
        description="the prompt strategy whose messages the model is trained on, and its adviser",
    )
    finetune: Section = Field(
        description="the LLM backend that fine-tunes (as provider:), its settings, and the splits"
    )
    engine: Section | None = Field(
        None, description="an engine's name and settings, if the provider trains on this machine"
    )
    trackers: Trackers = Field(
        default_factory=list, description="trackers by name, or with name and settings"
    )


_HOOK = "register_llm_backends"


def fine_tuner_class(provider: Any, registry: Registry) -> type[FineTuner]:
    if not isinstance(provider, str):
        raise InputError(f"must be a name. Known: {', '.join(providers(registry))}.")
    backend: type[LLMBackend] = registry.load(_HOOK, provider)
    chosen = fine_tuner_of(backend)
    if chosen is None:
        raise InputError(
            f"the LLM backend {provider!r} cannot fine-tune. Use one of "
            f"{', '.join(providers(registry))}."
        )
    return chosen


def fine_tuner_of(backend: type[LLMBackend]) -> type[FineTuner] | None:
    """Import and return a backend's fine-tuner, or None.

    Raises:
        SentikitError: it cannot be imported, or is not a ``FineTuner``.
    """
    named: Any = backend.fine_tuner
    if isinstance(named, str):
        module, _, name = named.partition(":")
        try:
            named = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise SentikitError(
                f"The fine-tuner of {backend.__name__} cannot be loaded from {named!r}: {error}. "
                "Fix its plugin."
            ) from error
    if named is None or (isinstance(named, type) and issubclass(named, FineTuner)):
        return named
    raise SentikitError(
        f"{backend.__name__}.fine_tuner must be a subclass of FineTuner or its location as "
        f"'package.module:Class', not {named!r}. Fix its plugin."
    )


def providers(registry: Registry) -> list[str]:
    """Return the names of the backends that can fine-tune, without broken ones."""
    found = []
    for name in registry.names(_HOOK):
        try:
            backend: type[LLMBackend] = registry.load(_HOOK, name)
        except SentikitError:
            continue
        if backend.fine_tuner is not None:
            found.append(name)
    return found


@dataclass(frozen=True)
class FinetuneComponents(StrategyComponents):
    """The components of a fine-tuning run; `split` is the training split.

    Attributes:
        provider: the backend's name.
        fine_tuner: fine-tunes the model.
        options: the keys that every provider shares.
        engine: runs the steps if the fine-tuner trains on this machine, else None.
        trackers: trackers by name.
        registry: the registry of components.
    """

    provider: str
    fine_tuner: FineTuner
    options: FinetuneOptions
    engine: Engine | None
    trackers: Mapping[str, Tracker]
    registry: Registry

    def conversations(
        self,
        split: LabelledSplit,
        kept: Path,
        advance: Callable[[int], object] = lambda texts: None,
    ) -> Iterator[tuple[Example, str, tuple[Message, ...]]]:
        """Yield each example of a split with its label and the strategy's messages.

        Args:
            split: the examples, all with a gold label.
            kept: the file of their prompt contexts, written if it is missing.
            advance: called with the number of texts the encoder has read since the last call.

        Raises:
            InputError: the adviser cannot be loaded, or lacks predictions.
            SentikitError: the strategy fails; the message names the row.
        """
        contexts = self._contexts(split, kept, advance)
        for number, row in enumerate(SplitRows(split)):
            given = prompt_input(row.example, split.classes, next(contexts))
            yield row.example, str(row.gold), messages_for(self, given, number)

    def _contexts(
        self, split: LabelledSplit, kept: Path, advance: Callable[[int], object]
    ) -> Iterator[PromptContext]:
        """Yield the prompt context of each row, computed once and kept in a file."""
        needs = self.strategy.needs()
        if not needs.prediction and needs.examples is None:
            return itertools.repeat(PromptContext())
        strategy = self.recipe.values.get("strategy")
        identity = [split.examples.fingerprint(), split.classes, strategy]

        def compute() -> Iterator[PromptContext]:
            components = replace(self, split=split.split)
            try:
                source = split_context(components, split, self.registry)
            except InputError as error:
                raise InputError(f"{split.name}: {error.message}") from error
            source.advance = advance
            for _, context in source.stream((row.example for row in SplitRows(split)), Session()):
                yield context

        return _kept_contexts(kept, json.dumps(identity) + "\n", compute)


def _kept_contexts(
    path: Path, identity: str, compute: Callable[[], Iterator[PromptContext]]
) -> Iterator[PromptContext]:
    """Yield contexts from a file, which is written first if missing or outdated."""
    known = False
    if path.is_file():
        with path.open(encoding="utf-8") as stream:
            known = stream.readline() == identity
    if not known:
        with atomic_writer(path) as stream:
            stream.write(identity)
            for advice, examples in compute():
                advised = advice and [advice.label, advice.probabilities]
                shown = [[one.text, one.label] for one in examples]
                stream.write(json.dumps({"adviser": advised, "examples": shown}) + "\n")
    with path.open(encoding="utf-8") as stream:
        stream.readline()
        for kept in map(json.loads, stream):
            found = kept["adviser"] and Prediction(*kept["adviser"])
            yield PromptContext(found, tuple(RetrievedExample(*one) for one in kept["examples"]))


def open_finetune_recipe(
    recipe: str | None, settings: tuple[str, ...] = (), registry: Registry | None = None
) -> FinetuneComponents:
    """Return the components of a recipe of kind ``finetune``.

    Args:
        recipe: a name or a YAML file; None raises an error that lists the choices.
        settings: overrides, such as ``("finetune.epochs=3",)``.
        registry: the registry of components.

    Raises:
        InputError: an unknown or invalid recipe; the message lists every problem.
    """
    known = registry or default_registry()
    name = needed_recipe(recipe, "finetune", known)
    return finetune_components(resolve_recipe(name, settings, known), known)


def finetune_components(recipe: ResolvedRecipe, registry: Registry) -> FinetuneComponents:
    return checked_components(recipe, "finetune", lambda: check_finetune(recipe, registry))


def check_finetune(
    recipe: ResolvedRecipe, registry: Registry
) -> tuple[FinetuneComponents | None, list[Problem]]:
    """Make the components, or return every problem, without data, models or servers."""
    settings, problems = validate(FinetuneRecipe, recipe.values)
    made, more = _fine_tuner(registry, recipe.values.get("finetune"))
    problems += more
    options = made.get("options")
    splits = [s for s in (options.train, options.validation) if s] if options else []
    found, more = check_strategy_components(recipe, registry, splits)
    made, problems = made | found, problems + more
    made["engine"], more = _engine(registry, recipe.values, made.get("fine_tuner"))
    problems += more
    made["trackers"], more = check_trackers(registry, recipe.values.get("trackers", []))
    problems += more
    if problems or settings is None or options is None:
        return None, problems
    return FinetuneComponents(recipe=recipe, split=options.train, registry=registry, **made), []


def _fine_tuner(registry: Registry, raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(raw, Mapping):
        return {}, []  # the recipe's schema reports it
    core, own = split_options(FinetuneOptions, raw)
    options, problems = validate(FinetuneOptions, core, ("finetune",))
    provider = own.pop("provider", None)
    made: dict[str, Any] = {"options": options, "provider": str(provider)}
    try:
        chosen = fine_tuner_class(provider, registry)
    except InputError as error:
        return made, [*problems, Problem(("finetune", "provider"), error.message)]
    known = ["provider", *FinetuneOptions.model_fields]
    made["fine_tuner"], more = make_component(chosen, own, ("finetune",), known)
    return made, problems + more


def _engine(
    registry: Registry, values: Mapping[str, Any], fine_tuner: FineTuner | None
) -> tuple[Any, list[Problem]]:
    raw = values.get("engine")
    if fine_tuner is None:
        return None, []
    if not fine_tuner.trains_here:
        message = "this provider trains remotely and uses no engine. Leave it out."
        return None, [] if raw is None else [Problem(("engine",), message)]
    return check_engine(registry, {"name": "auto"} if raw is None else raw, ("engine",))
