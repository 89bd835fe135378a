"""Loading a classifier from a run, recipe, model, results file or plugin."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sentikit.classifiers.classifier import Classifier, asks_llms
from sentikit.classifiers.hub import is_hub_id
from sentikit.classifiers.loading import LoadingOptions, find_model_folder, hub_model, load_model
from sentikit.classifiers.plugin_classifier import untrained_classifier
from sentikit.devices import check_device
from sentikit.errors import InputError, nearest
from sentikit.files import read_json
from sentikit.registry import Registry, default_registry
from sentikit.runs.folder import MANIFEST, RUNS, near_runs

if TYPE_CHECKING:
    from sentikit.llm.backend import LLMBackend
    from sentikit.llm.classifier import LLMClassifier
    from sentikit.llm.recipe import PromptComponents
    from sentikit.recipe.resolving import ResolvedRecipe

_RECIPES = (".yaml", ".yml")


def load(
    name: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    calibrated: bool = False,
    revision: str | None = None,
    label_map: Mapping[str, str] | None = None,
    registry: Registry | None = None,
) -> Classifier:
    """Load a classifier.

    Args:
        name: a run of any kind; a recipe's name or file; a model folder; a model on the hub
            (``owner/name``); a results file, or ``PATH#encoder``; a plugin's classifier.
        device: device of encoders: auto, cpu, cuda, cuda:1, mps.
        precision: precision of encoders: auto (bf16 if it is faster), fp32, bf16, fp16, or int8
            for an ONNX folder that has it.
        calibrated: divide an encoder's logits by the temperature fitted on validation.
        revision: branch, tag or commit of a model on the hub.
        label_map: maps a transformers classifier's labels to classes.
        registry: the registry of components.

    Raises:
        InputError: no classifier has that name, it is damaged, or its components are not
            installed.
        SentikitError: the hub cannot be reached.
    """
    options = LoadingOptions(device, precision, calibrated, revision, label_map)
    loaded = find_classifier(name, options, registry=registry).load()
    loaded.source = str(name)
    return loaded


@dataclass(frozen=True)
class FoundClassifier:
    """A classifier that exists and is not loaded yet.

    Attributes:
        load: loads it.
        backends: those of the LLMs that it or a member calls.
    """

    load: Callable[[], Classifier]
    backends: tuple[LLMBackend, ...] = ()

    def check_keys(self) -> None:
        """Refuse a missing key of an LLM."""
        for backend in self.backends:
            backend.check_key()


def find_classifier(
    name: str | Path,
    options: LoadingOptions,
    say: Callable[[str], None] | None = None,
    registry: Registry | None = None,
) -> FoundClassifier:
    """Find a classifier, and refuse a missing one, a member or a device before any heavy import.

    `say` gets warnings about old keys instead of Python.
    """
    check_device(options.device)
    return _Loader(registry or default_registry(), options, say or _warn).find(str(name))


def _warn(message: str) -> None:
    warnings.warn(message, FutureWarning, stacklevel=2)


def _backends(classifier: Classifier) -> tuple[LLMBackend, ...]:
    """Return the backends of the LLMs among a classifier's members."""
    if not asks_llms(classifier):
        return ()
    from sentikit.llm.classifier import language_models

    return tuple(model.components.llm for model in language_models(classifier))


def refuse_missing_model(components: PromptComponents) -> None:
    """Refuse a model whose fine-tuning run does not exist."""
    from sentikit.llm.recipe import missing_run

    if missing := missing_run(components.llm.model):
        raise InputError(missing)


@contextmanager
def _suggested(meant: str) -> Iterator[None]:
    """Add the runs that may be meant to an error."""
    try:
        yield
    except InputError as error:
        raise (InputError(f"{error.message} {meant}") if meant else error) from error.__cause__


class _Loader:
    def __init__(
        self, registry: Registry, options: LoadingOptions, say: Callable[[str], None] = _warn
    ) -> None:
        self._registry, self._options, self._say = registry, options, say

    def load(self, name: str) -> Classifier:
        return self.find(name).load()

    def find(self, name: str) -> FoundClassifier:
        path = Path(name).expanduser()
        if name.endswith("#encoder") and not path.exists():
            return FoundClassifier(partial(self._recorded, name))
        if path.is_file() and path.suffix not in _RECIPES:
            return FoundClassifier(partial(self._recorded, name))
        if (path / MANIFEST).is_file():
            return self._of_run(path, name)
        if path.is_dir():
            return self._model(name)
        if path.suffix in _RECIPES or name in self._registry.names("register_recipes"):
            return self._of_recipe(name)
        if name in self._registry.names("register_classifiers"):
            return self._of_plugin(name)
        if "/" not in name and not path.exists():
            raise self._unknown(name)
        return self._model(name)

    def _model(self, name: str) -> FoundClassifier:
        path = Path(name).expanduser()
        meant = near_runs(path)
        if meant and not path.exists() and any(path.parent.glob(f"*/{MANIFEST}")):
            raise InputError(f"{name} does not exist. {meant}")
        # A model on the hub is looked for only when it is loaded.
        if path.exists() or not (is_hub_id(name) or hub_model(name, self._registry)):
            with _suggested(meant):
                find_model_folder(name, self._registry, self._options.revision)
        return FoundClassifier(partial(self._load_model, name, meant))

    def _load_model(self, name: str, meant: str) -> Classifier:
        with _suggested(meant):
            return load_model(name, self._options, self._registry)

    def _of_plugin(self, name: str) -> FoundClassifier:
        if hub_model(name, self._registry) is not None:
            return self._model(name)
        self._refuse_options(name)
        made = untrained_classifier(self._registry, name)
        return FoundClassifier(lambda: made, _backends(made))

    def _recorded(self, name: str) -> Classifier:
        from sentikit.runs.reading import read_run
        from sentikit.runs.recorded import RecordedClassifier

        self._refuse_options(name)
        return RecordedClassifier(read_run(name, registry=self._registry))

    def _of_run(self, path: Path, name: str) -> FoundClassifier:
        """Find the classifier of a run: its model, its LLM or its members."""
        from sentikit.recipe.resolving import resolve_values
        from sentikit.runs.listing import read_manifest

        manifest = read_manifest(path)
        kind, values = manifest.get("kind"), manifest.get("recipe") or {}
        if kind in ("prompt", "cascade", "vote"):
            if not values:
                raise InputError(f"{path / MANIFEST} has no recipe, so the run is not complete.")
            threshold = None
            if (path / "cascade.json").is_file():
                threshold = float(read_json(path / "cascade.json")["threshold"])
            return self._of_values(resolve_values(values, path.name, name), name, threshold)
        if kind == "finetune":
            raise InputError(
                f"{name} is a fine-tuned LLM, which needs a prompt recipe: sentikit prompt "
                f"--recipe … --set llm.backend={manifest.get('provider')} --set llm.model={name}"
            )
        if kind == "evaluate" and values.get("model"):
            given = self._options
            kept = replace(
                given,
                revision=given.revision or values.get("revision"),
                label_map=given.label_map or values.get("label_map"),
            )
            return _Loader(self._registry, kept, self._say).find(str(values["model"]))
        return self._model(name)

    def _of_recipe(self, name: str) -> FoundClassifier:
        from sentikit.recipe.resolving import resolve_recipe

        return self._of_values(resolve_recipe(name, registry=self._registry), name)

    def _of_values(
        self, recipe: ResolvedRecipe, name: str, threshold: float | None = None
    ) -> FoundClassifier:
        from sentikit.recipe.resolving import kind_of

        for warning in recipe.warnings:
            self._say(warning)
        kind = kind_of(recipe)
        if kind in ("cascade", "vote"):
            return self._ensemble(recipe, kind, threshold)
        if kind == "prompt":
            from sentikit.llm.recipe import prompt_components

            self._refuse_options(name)
            components = prompt_components(recipe, self._registry)
            refuse_missing_model(components)
            return FoundClassifier(partial(self._llm, components), (components.llm,))
        if kind == "finetune":
            raise InputError(f"{name} is a recipe that fine-tunes an LLM. Give a prompt recipe.")
        from sentikit.ensembles.recipe import finished_run

        return self.find(finished_run(recipe, name, RUNS))

    def _llm(self, components: PromptComponents) -> LLMClassifier:
        from sentikit.llm.classifier import LLMClassifier, context_source

        return LLMClassifier(components, context_source(components, self.load))

    def _ensemble(
        self, recipe: ResolvedRecipe, kind: str, threshold: float | None
    ) -> FoundClassifier:
        from sentikit.classifiers.cascade import Cascade
        from sentikit.classifiers.vote import Vote
        from sentikit.ensembles import recipe as schemas

        make: Callable[[dict[str, Classifier]], Classifier]
        if kind == "vote":
            vote = schemas.ensemble_settings(recipe, self._registry, schemas.VoteRecipe).vote
            named = schemas.member_names(vote.members)
            make = partial(Vote, ties=vote.ties)
        else:
            cascade = schemas.ensemble_settings(
                recipe, self._registry, schemas.CascadeRecipe
            ).cascade
            named = cascade.stages
            cuts = cascade.thresholds or ([] if threshold is None else [threshold])
            if not cuts:
                raise InputError(
                    f"{recipe.name} chooses its threshold when it runs. Run it (sentikit cascade "
                    f"--recipe {recipe.name}), then give that run."
                )
            make = partial(Cascade, thresholds=cuts)
        loader = _Loader(self._registry, replace(self._options, revision=None), self._say)
        found = {name: loader.find(member) for name, member in named.items()}

        def load_members() -> Classifier:
            return make({name: member.load() for name, member in found.items()})

        backends = chain.from_iterable(one.backends for one in found.values())
        return FoundClassifier(load_members, tuple(backends))

    def _refuse_options(self, name: str) -> None:
        if self._options.calibrated:
            raise InputError(f"{name} is not an encoder and cannot be calibrated. Leave it out.")
        if self._options.label_map is not None:
            raise InputError(f"{name} defines its classes. Leave out the label map.")

    def _unknown(self, name: str) -> InputError:
        known = [
            *self._registry.names("register_recipes"),
            *self._registry.names("register_classifiers"),
            *(str(run) for run in sorted(RUNS.glob("*")) if run.is_dir()),
        ]
        likely = nearest(name, known) or nearest(f"{RUNS}/{name}", known)
        meant = f" Did you mean {' or '.join(map(repr, likely))}?" if likely else ""
        return InputError(
            f"{name} does not exist.{meant} Give a run, a recipe, a model folder, a results file, "
            "or a model on the hub (owner/name)."
        )
