"""Conformance checks of LLM backends, prompt strategies and fine-tuners."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentikit import Prediction
from sentikit.extension import (
    BackendError,
    ChatRequest,
    FineTunedModel,
    FineTuner,
    FineTuningJob,
    LLMBackend,
    Message,
    PromptInput,
    PromptStrategy,
    RetrievedExample,
    Usage,
    answer_problem,
    default_registry,
)

from .components import check_component, require

_KEY_MARKS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_SHORTEST_KEY = 8


def check_llm_backend(backend_class: type[LLMBackend], settings: Mapping[str, Any]) -> None:
    """Ask one question; give settings of a local or mock server.

    Raises:
        AssertionError: the answer or the cache key breaks a rule.
        sentikit.SentikitError: the server cannot be reached.
    """
    backend = check_component(backend_class, settings)
    name = backend_class.__name__
    require(isinstance(backend.model, str), f"{name}.model must be a text, not {backend.model!r}.")
    labels = ("negative", "neutral", "positive")
    question = Message("user", f"I love it. Answer {' or '.join(labels)}:")
    request = ChatRequest((question,), labels, example_id="1", text="I love it.")
    asyncio.run(_ask(name, backend, request))


async def _ask(name: str, backend: LLMBackend, request: ChatRequest) -> None:
    await backend.open(_Session())
    try:
        _check_key(name, backend, request)
        answer = await backend.ask(request)
        problem = answer_problem(answer, request.labels)
        require(not problem, f"{name}.ask(): {problem}")
    except BackendError as error:
        raise AssertionError(f"{name}.ask() failed: {error.message}") from error
    finally:
        await backend.close()


def _check_key(name: str, backend: LLMBackend, request: ChatRequest) -> None:
    key = json.dumps(backend.canonical(request), sort_keys=True, allow_nan=False)
    again = json.dumps(backend.canonical(request), sort_keys=True, allow_nan=False)
    require(key == again, f"{name}.canonical() differs for the same request.")
    other = ChatRequest((Message("user", "Something else."),), request.labels)
    require(
        json.dumps(backend.canonical(other), sort_keys=True) != key,
        f"{name}.canonical() must differ for another question.",
    )
    for variable, value in os.environ.items():
        secret = any(mark in variable.upper() for mark in _KEY_MARKS)
        leaks = secret and len(value) >= _SHORTEST_KEY and value in key
        require(not leaks, f"{name}.canonical() holds the secret in {variable}.")


class _Session:
    """A session with an unlimited budget and memory until its end."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def say(self, message: str) -> None:
        """Ignore the message."""

    probabilities = True

    async def reserve(self, most: Usage) -> None:
        """Allow every call."""

    def settle(self, used: Usage | None) -> None:
        """Accept the call."""

    def recall(self, key: str) -> Any:
        """Return what was remembered."""
        return self._values.get(key)

    def remember(self, key: str, value: Any) -> None:
        """Remember a JSON value."""
        self._values[key] = json.loads(json.dumps(value))


_CLASSES = ("negative", "neutral", "positive")
_TEXT = "The plot is thin,\nand yet {I} laughed: 100 % “fun”."


def check_prompt_strategy(
    strategy_class: type[PromptStrategy], settings: Mapping[str, Any]
) -> None:
    """Check the messages for a text, with what the strategy needs, and the parsing of answers.

    Raises:
        AssertionError: the messages lack the text or change from call to call, or an answer is
            parsed as something other than a class.
    """
    strategy = check_component(strategy_class, settings)
    name = strategy_class.__name__
    given = _input(strategy)
    messages = strategy.messages(given)
    require(
        messages and all(isinstance(message, Message) for message in messages),
        f"{name}.messages() must return a list of sentikit.extension.Message, not {messages!r}.",
    )
    require(strategy.messages(given) == messages, f"{name}.messages() differ for the same input.")
    require(
        any(_TEXT in message.content for message in messages),
        f"{name}.messages() must contain the text unchanged: {_TEXT!r}.",
    )
    for answer in ("", "positive", "neither, really", "negative or positive"):
        label = strategy.parse(answer, _CLASSES)
        require(
            label is None or label in _CLASSES,
            f"{name}.parse({answer!r}) must return one of the classes or None, not {label!r}.",
        )
    require(strategy.parse("", _CLASSES) is None, f"{name}.parse('') must be None: no answer.")


def _input(strategy: PromptStrategy) -> PromptInput:
    needs = strategy.needs()
    probabilities = {"negative": 0.1, "neutral": 0.2, "positive": 0.7}
    prediction = Prediction("positive", probabilities if needs.probabilities else None)
    count = 0
    if needs.examples:
        count = needs.examples.k * (len(_CLASSES) if needs.examples.balanced else 1)
    examples = [RetrievedExample(f"example {n}", _CLASSES[n % 3]) for n in range(count)]
    return PromptInput(_TEXT, _CLASSES, prediction if needs.prediction else None, tuple(examples))


_LABELS = ("negative", "neutral", "positive")
_EXAMPLES = 12


def check_fine_tuner(fine_tuner_class: type[FineTuner], settings: Mapping[str, Any]) -> None:
    """Fine-tune on twelve examples; give settings of a tiny model or a mock server.

    Raises:
        AssertionError: the fine-tuner breaks a rule.
        sentikit.SentikitError: the provider refuses or cannot be reached.
    """
    fine_tuner = check_component(fine_tuner_class, settings)
    name = fine_tuner_class.__name__
    require(isinstance(fine_tuner.model, str), f"{name}.model must be a text.")
    _check_identity(name, fine_tuner)
    epochs = fine_tuner.epochs(_EXAMPLES)
    require(
        isinstance(epochs, int) and epochs >= 1,
        f"{name}.epochs() must be at least 1, not {epochs!r}.",
    )
    count = fine_tuner.token_count()
    if count is not None:
        tokens = count([Message("user", "I love it."), Message("assistant", "positive")])
        require(isinstance(tokens, int) and tokens > 0, f"{name}.token_count() counts {tokens!r}.")
    _teach(name, fine_tuner)


def _check_identity(name: str, fine_tuner: FineTuner) -> None:
    identity = json.dumps(fine_tuner.identity(), sort_keys=True, allow_nan=False)
    again = json.dumps(fine_tuner.identity(), sort_keys=True, allow_nan=False)
    require(identity == again, f"{name}.identity() differs for the same settings.")
    for variable, value in os.environ.items():
        secret = variable.upper().endswith(("KEY", "TOKEN", "SECRET", "PASSWORD"))
        leaks = secret and len(value) >= 8 and value in identity
        require(not leaks, f"{name}.identity() holds the secret in {variable}.")


def _teach(name: str, fine_tuner: FineTuner) -> None:
    with tempfile.TemporaryDirectory(prefix="sentikit-") as folder:
        session = _FineTuningSession()
        engine = None
        if fine_tuner.trains_here:
            engine_class = default_registry().load("register_engines", "torch")
            engine = engine_class(engine_class.Settings())
            engine.start("cpu")
        try:
            job = _job(Path(folder), engine)
            fine_tuner.check(session)
            model = fine_tuner.run(job, session)
            _check_model(name, model, job.path)
        finally:
            if engine is not None:
                engine.finish()


def _job(folder: Path, engine: Any) -> FineTuningJob:
    paths = {}
    for use, count in (("train", _EXAMPLES), ("validation", 3)):
        lines = [
            _training_line(Message("user", f"{_LABELS[n % 3]} review {n}"), _LABELS[n % 3])
            for n in range(count)
        ]
        paths[use] = folder / f"{use}.jsonl"
        paths[use].write_text("".join(lines), encoding="utf-8")
    return FineTuningJob(folder, paths["train"], paths["validation"], _LABELS, "0" * 64, engine)


def _training_line(message: Message, label: str) -> str:
    answered = [message.to_json(), Message("assistant", label).to_json()]
    return json.dumps({"messages": answered}) + "\n"


def _check_model(name: str, model: Any, folder: Path) -> None:
    require(
        isinstance(model, FineTunedModel),
        f"{name}.run() must return a FineTunedModel unless it is stopped, not {model!r}.",
    )
    if isinstance(model.model, Path):
        there = not model.model.is_absolute() and (folder / model.model).exists()
        require(there, f"{name}.run() names {model.model}, which is not in the run's folder.")
    else:
        require(model.model, f"{name}.run() must name its model.")
    json.dumps([model.llm, model.metrics], allow_nan=False)


class _FineTuningSession:
    """A session that stores what it is given and never asks to stop."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def say(self, message: str) -> None:
        """Ignore the message."""

    def alert(self, title: str, text: str) -> None:
        """Ignore the message."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Accept a record."""
        json.dumps(record, allow_nan=False)
        require("kind" in record, f"a record needs a kind: {record!r}.")

    def rewind(self, step: int, epochs: int = 0) -> None:
        """Do nothing: there is no log."""

    def recall(self, key: str) -> Any:
        """Return what was remembered."""
        return self._values.get(key)

    def remember(self, key: str, value: Any) -> None:
        """Remember a JSON value."""
        self._values[key] = json.loads(json.dumps(value))

    def stop_requested(self) -> bool:
        """Return False."""
        return False
