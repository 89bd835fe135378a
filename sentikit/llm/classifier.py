"""The classifier that asks an LLM: a backend, a prompt strategy and, where needed, an adviser."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sentikit.chat import ChatRequest, Message, Usage
from sentikit.classifiers.classifier import Classifier, Example, Session
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.label_reader import parse_rationale
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.labels import LabelScheme
from sentikit.errors import SentikitError
from sentikit.llm.context import (
    ContextSource,
    Memory,
    PromptContext,
    load_encoder,
    no_embeddings,
    recorded_adviser,
)
from sentikit.llm.requests.calls import LLMMember
from sentikit.llm.requests.loop import AnsweredQuestion, Question
from sentikit.llm.retrieval import Retriever, drawn_examples
from sentikit.llm.session import CACHE, RequestSession
from sentikit.llm.settings import RequestOptions
from sentikit.llm.strategy import Needs, PromptInput, label_reader

if TYPE_CHECKING:
    from sentikit.llm.recipe import PromptComponents, StrategyComponents
    from sentikit.registry import Registry
    from sentikit.runs.folder import LabelledSplit

#: The file of answers outside of a job, unless the recipe names one.
DEFAULT_CACHE = Path("runs") / CACHE
#: The error of a prediction whose request was collected for a batch or an estimate.
PENDING = "not asked yet"
#: Expected tokens of a rationale.
_RATIONALE_TOKENS = 100
_RATIONALE = (
    "\n\nFirst give your reason in one or two sentences, then the label, as JSON: "
    '{"rationale": "…", "label": "…"}'
)


class _Row(NamedTuple):
    example: Example
    context: PromptContext


class LLMClassifier(Classifier):
    asks_llm = True

    def __init__(self, components: PromptComponents, context: ContextSource) -> None:
        self.components, self.context = components, context
        if context.adviser is not None:
            self.members = {"adviser": context.adviser}
        self._read_label = label_reader(components.strategy, components.strategy_name)

    @property
    def scheme(self) -> LabelScheme:
        return self.components.dataset.scheme

    @property
    def cache(self) -> Path:
        """The file of answers outside of a job."""
        return self.components.llm_options.cache or DEFAULT_CACHE

    def prepare(self, session: Session) -> None:
        """Check the key, the server and the model before the first request."""
        super().prepare(session)
        if isinstance(session, RequestSession):
            session.check(self.components.llm, self.components.llm_options)

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield one prediction for each example; equal requests are sent once.

        Outside of a job, answers are cached in the recipe's ``llm.cache``, by default
        ``runs/answers.sqlite``.
        """
        session = session or self.job
        with ExitStack() as stack:
            if not isinstance(session, RequestSession):
                stop_requested = session.stop_requested if session else lambda: False
                own = RequestSession(uuid.uuid4().hex, self.cache, stop_requested=stop_requested)
                session = stack.enter_context(own)
            llm, options = self.components.llm, self.components.llm_options
            member = session.member(llm, options, self._read_label, self.labels)
            answers = session.ask(member, self._questions(examples, session, member))
            stack.callback(answers.close)
            collecting = session.collecting
            while answered := list(itertools.islice(answers, options.samples)):
                samples = [_prediction(one, collecting) for one in answered]
                yield samples[0] if len(samples) == 1 else _majority(samples, self.labels)

    def messages(
        self, examples: Iterable[str | Example], session: Session, memory: Memory | None = None
    ) -> Iterator[tuple[Example, tuple[Message, ...]]]:
        for row, (example, shown) in enumerate(self.context.stream(examples, session, memory)):
            given = prompt_input(example, self.labels, shown)
            yield example, messages_for(self.components, given, row)

    def describe(self) -> dict[str, Any]:
        """Return the sections of the recipe that determine the labels."""
        values = self.components.recipe.values
        free = set(RequestOptions.model_fields) - {"repair"}
        llm = {name: value for name, value in values["llm"].items() if name not in free}
        return super().describe() | {"llm": llm, "strategy": values.get("strategy")}

    def _questions(
        self, examples: Iterable[str | Example], session: RequestSession, member: LLMMember
    ) -> Iterator[Question[_Row]]:
        memory = None if session.collecting and not session.batch_folder else session
        stream = self.context.stream(examples, session, memory)
        needs, labels = self.components.strategy.needs(), self.labels
        samples = range(self.components.llm_options.samples)
        for number, (example, context) in enumerate(stream):
            row = _Row(example, context)
            missing = _missing(context.adviser, needs)
            if not example.text.strip() or missing is not None:
                unasked = Question(row, None, missing if example.text.strip() else None)
                yield from (unasked for _ in samples)
                continue
            given = prompt_input(example, labels, context)
            request = self._request(given, number, member, needs)
            for sample in samples:
                yield Question(row, replace(request, sample=sample) if sample else request)

    def _request(
        self, given: PromptInput, number: int, member: LLMMember, needs: Needs
    ) -> ChatRequest:
        options, backend = self.components.llm_options, member.backend
        rationale = self.components.strategy_options.rationale
        messages = messages_for(self.components, given, number)
        expected = needs.tokens + (_RATIONALE_TOKENS if rationale else 0)
        limited = "max_tokens" in options.model_fields_set
        least = 2 * expected + (0 if limited else backend.least_tokens)
        return ChatRequest(
            messages=messages,
            labels=given.classes,
            temperature=options.temperature,
            max_tokens=max(options.max_tokens, least),
            probabilities=options.probabilities and options.samples == 1,
            example_id=given.id,
            text=given.text,
            occurrence=member.occurrence(given.text) if backend.by_occurrence else 0,
            rationale=rationale,
            free_text=needs.free_text,
            expected_tokens=expected,
        )


def _missing(advice: Prediction | None, needs: Needs) -> str | None:
    """Return why a strategy cannot show the adviser's prediction, or None."""
    if advice is None or not needs.prediction:
        return None
    if advice.label is None:
        return advice.error or "The adviser gives no label for this text."
    if needs.probabilities and advice.probabilities is None:
        return "The adviser gives no probabilities for this text."
    return None


def language_models(classifier: Classifier) -> list[LLMClassifier]:
    """Return the LLM classifiers among a classifier and its members."""
    found = [classifier] if isinstance(classifier, LLMClassifier) else []
    for member in classifier.members.values():
        found += language_models(member)
    return found


def split_context(
    components: StrategyComponents,
    split: LabelledSplit,
    registry: Registry,
    load: Callable[[str], Classifier] | None = None,
) -> ContextSource:
    """Return the source of prompt context for a split.

    An adviser read from recorded answers must have one for every example of the split.
    """
    needs, adviser = components.strategy.needs(), None
    if needs.prediction:
        adviser = recorded_adviser(components.strategy_options, split, needs, registry)
    return context_source(components, load or (lambda name: load_encoder(name, registry)), adviser)


def context_source(
    components: StrategyComponents,
    load: Callable[[str], Classifier],
    adviser: Classifier | None = None,
) -> ContextSource:
    """Return the source of the prompt context that a recipe's strategy shows."""
    needs, options = components.strategy.needs(), components.strategy_options
    classes, name = components.dataset.scheme.classes, options.adviser or ""
    if needs.prediction and adviser is None:
        adviser = load(name)
    if needs.examples is None:
        return ContextSource(classes, adviser, name)
    if not needs.examples.nearest:
        return ContextSource(classes, adviser, name, drawn=drawn_examples(components))
    finder = options.examples.encoder or name
    encoder = adviser if finder == name and adviser is not None else load(finder)
    if not isinstance(encoder, EncoderClassifier):
        encoder = load(finder)
    if not isinstance(encoder, EncoderClassifier):
        raise no_embeddings(finder)
    return ContextSource(classes, adviser, name, Retriever(encoder, finder, components))


def prompt_input(example: Example, classes: tuple[str, ...], context: PromptContext) -> PromptInput:
    advice = context.adviser
    return PromptInput(
        text=example.text,
        classes=classes,
        adviser_prediction=None if advice is None or advice.label is None else advice,
        examples=context.examples,
        id=example.id,
        source=example.source,
        columns=example.columns,
    )


def messages_for(
    components: StrategyComponents, given: PromptInput, row: int
) -> tuple[Message, ...]:
    try:
        messages: Any = components.strategy.messages(given)
    except SentikitError:
        raise
    except Exception as error:
        raise SentikitError(
            f"The strategy {components.strategy_name!r} failed at row {row + 1}: "
            f"{type(error).__name__}: {error}. Fix its plugin."
        ) from error
    filled = isinstance(messages, list | tuple) and messages
    if filled and all(isinstance(message, Message) for message in messages):
        if components.strategy_options.rationale:
            last = replace(messages[-1], content=messages[-1].content + _RATIONALE)
            return (*messages[:-1], last)
        return tuple(messages)
    raise SentikitError(
        f"The strategy {components.strategy_name!r} returned {messages!r} for row {row + 1}; it "
        "must return a list of sentikit.extension.Message. Fix its plugin."
    )


def _prediction(answered: AnsweredQuestion[_Row], collecting: bool) -> Prediction:
    """Return the prediction of an answered question; its cost includes the adviser's."""
    advice = answered.question.row.context.adviser
    if answered.pending or (collecting and answered.label is None):
        return Prediction(None, confidence=1.0, adviser=advice, error=PENDING)
    failed = answered.error is not None
    cost, paid = (0.0, 0.0) if failed else (answered.cost, answered.paid)
    raw = [_writable(answer.raw or answer.text) for answer in answered.answers]
    rationale = _rationale(answered)
    error = None if answered.error is None else _writable(answered.error)
    usage, probabilities = answered.usage, answered.probabilities
    if advice is not None and advice.usage is not None:
        cost, paid = _sum(cost, advice.cost), _sum(paid, advice.paid)
        usage = advice.usage if usage is None else usage + advice.usage
    return Prediction(
        label=answered.label,
        probabilities=probabilities,
        cost=cost,
        paid=paid,
        usage=usage,
        answer=raw[-1] if raw else None,
        first_answer=raw[0] if len(raw) > 1 else None,
        finish_reason=answered.answers[-1].finish_reason if raw else None,
        rationale=rationale,
        adviser=advice,
        error=error,
    )


def _rationale(answered: AnsweredQuestion[_Row]) -> str | None:
    request = answered.question.request
    if request is None or not request.rationale:
        return None
    found = (parse_rationale(answer.raw or answer.text) for answer in reversed(answered.answers))
    rationale = next((reason for reason in found if reason), None)
    return None if rationale is None else _writable(rationale)


def _majority(samples: list[Prediction], labels: tuple[str, ...]) -> Prediction:
    """Return the most frequent label; shares of the labels become probabilities."""
    valid = [one for one in samples if one.label is not None]
    costs, paid = [one.cost for one in samples], [one.paid for one in samples]
    advice, usages = samples[0].adviser, [one.usage for one in samples]
    bills: dict[str, Any] = {
        "cost": _sum(*costs),
        "paid": _sum(*paid),
        "usage": None if None in usages else sum(filter(None, usages), Usage()),
    }
    if advice is not None and advice.cost and bills["cost"] is not None:
        # The adviser is queried once for all samples.
        bills["cost"] -= advice.cost * (len(samples) - 1)
    if not valid:
        failed = next((one for one in samples if one.error is not None), samples[0])
        return replace(failed, **bills)
    shares = {name: sum(one.label == name for one in valid) / len(valid) for name in labels}
    winner = max(labels, key=shares.__getitem__)
    return replace(
        next(one for one in valid if one.label == winner),
        probabilities=shares,
        confidence=shares[winner],
        error=next((one.error for one in samples if one.error == PENDING), None),
        **bills,
    )


def _sum(*amounts: float | None) -> float | None:
    return None if None in amounts else sum(filter(None, amounts), 0.0)


def _writable(text: str) -> str:
    """Escape lone surrogates, which servers may send and UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
