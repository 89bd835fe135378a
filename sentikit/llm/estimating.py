"""What a run would cost: tokens counted offline, no call made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.prediction import Usage
from sentikit.llm.backend import ChatRequest, LLMBackend
from sentikit.llm.counting import TokenCounter
from sentikit.llm.prices import Prices, describe_cost, model_facts, prices_for, usd
from sentikit.llm.requests.batches import BATCH_TIER
from sentikit.llm.requests.budget import Money
from sentikit.llm.requests.journal import AnswerJournal, request_key
from sentikit.llm.requests.loop import Question
from sentikit.llm.requests.settings import RequestOptions

if TYPE_CHECKING:
    from sentikit.llm.asking import PromptRow


#: What the question behind an invalid answer takes, generously.
_REPAIR_TOKENS = 64


@dataclass(frozen=True)
class Estimate:
    """What was counted; USD, None where the price is unknown.

    Attributes:
        model: the model's name.
        requests: how many calls would be made.
        cached: how many more are in the cache already.
        repeated: how many more ask what another of these calls asks; it is asked once.
        prompt_tokens: of all requests.
        completion_tokens: expected, of all answers.
        exact: whether the model's own tokenizer counted.
        longest_prompt: tokens.
        longest_id: id of the example it is about.
        context: tokens the model holds, or None.
        expected_usd: if every answer is a label.
        most_usd: if every answer is as long as it may be and every one is repaired.
        prices_as_of: the day the prices were checked, or None.
    """

    model: str
    requests: int
    cached: int
    repeated: int
    prompt_tokens: int
    completion_tokens: int
    exact: bool
    longest_prompt: int
    longest_id: str
    context: int | None
    expected_usd: float | None
    most_usd: float | None
    prices_as_of: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the lines that people read."""
        about = "" if self.exact else "about "
        again = f", {self.repeated:,} repeated" if self.repeated else ""
        lines = [
            f"Model              {self.model}",
            f"Requests           {self.requests:,}, and {self.cached:,} in the cache{again}",
            f"Prompt tokens      {about}{self.prompt_tokens:,}",
            f"Completion tokens  about {self.completion_tokens:,}",
            f"Longest prompt     {about}{self.longest_prompt:,} tokens (example {self.longest_id})",
            f"Cost               {self._cost()}",
        ]
        if self.context is not None and self.longest_prompt > self.context:
            lines.append(f"Too long           the model holds {self.context:,} tokens")
        return "\n".join(lines)

    def _cost(self) -> str:
        if self.expected_usd is None or self.most_usd is None:
            return "unknown: the model has no price; give llm.prices.prompt and .completion"
        expected, most = (
            describe_cost(round(v * 10**12)) for v in (self.expected_usd, self.most_usd)
        )
        dated = f" (prices of {self.prices_as_of})" if self.prices_as_of else ""
        return f"about {expected}, at most {most}{dated}"


@dataclass(frozen=True)
class _Tariff:
    """What calls are billed by."""

    prices: Prices | None
    tier: str | None
    live_tier: str | None
    repair: bool

    def worst(self, request: ChatRequest, prompt: int) -> Iterator[int | None]:
        """Yield the most that a call can cost and, with repairs, the one behind it."""
        yield self._worst(prompt, request, self.tier)
        if self.repair:
            # Asked at once also after a batch, with the answer and a question behind it.
            longer = prompt + request.max_tokens + _REPAIR_TOKENS
            yield self._worst(longer, request, self.live_tier)

    def _worst(self, prompt: int, request: ChatRequest, tier: str | None) -> int | None:
        if self.prices is None:
            return None
        return self.prices.worst(prompt, request.max_tokens, tier)


@dataclass
class _Count:
    """What has been counted so far; prices in picodollars."""

    requests: int = 0
    cached: int = 0
    repeated: int = 0
    usage: Usage = field(default_factory=Usage)
    most: Money = field(default_factory=Money)
    longest: tuple[int, str] = (0, "")


def estimate(
    backend: LLMBackend,
    questions: Iterable[Question[PromptRow]],
    options: RequestOptions,
    cache: Path,
    batch: bool = False,
) -> Estimate:
    """Count what the questions would cost.

    Args:
        backend: not opened; nothing is asked.
        questions: in order.
        options: of the ``llm`` section.
        cache: the file of answers, which may not exist yet.
        batch: whether the batch service's prices count.
    """
    facts = model_facts(backend.model)
    prices = prices_for(facts, options.prices, backend.billed)
    counter = TokenCounter(facts.tokenizer)
    tier = BATCH_TIER if batch else backend.service_tier
    tariff = _Tariff(prices, tier, backend.service_tier, options.repair)
    counted = _count(backend, questions, cache, counter, tariff)
    expected = prices.cost(counted.usage, tier) if prices else None
    most = counted.most.known
    return Estimate(
        model=backend.model,
        requests=counted.requests,
        cached=counted.cached,
        repeated=counted.repeated,
        prompt_tokens=counted.usage.prompt,
        completion_tokens=counted.usage.completion,
        exact=counter.exact,
        longest_prompt=counted.longest[0],
        longest_id=counted.longest[1],
        context=facts.context,
        expected_usd=None if expected is None else usd(expected),
        most_usd=None if prices is None or most is None else usd(most),
        prices_as_of=facts.as_of.isoformat() if facts.as_of and options.prices is None else None,
    )


def _count(
    backend: LLMBackend,
    questions: Iterable[Question[PromptRow]],
    cache: Path,
    counter: TokenCounter,
    tariff: _Tariff,
) -> _Count:
    """Count the tokens of every call that would be made, and the most they can cost."""
    counted, seen = _Count(), set[bytes]()
    with _Known(cache) as known:
        for question in questions:
            request = question.request
            sent = backend.canonical(request)
            key = request_key(sent)
            if key in seen:
                counted.repeated += 1
                continue
            if key in known:
                counted.cached += 1
                continue
            seen.add(key)
            tokens = counter.request(request, sent)
            answer = _expected_answer(counter, request.labels)
            counted.requests += 1
            counted.usage += Usage(tokens.expected, 0, answer)
            for worst in tariff.worst(request, tokens.most):
                counted.most.add(worst)
            counted.longest = max(counted.longest, (tokens.expected, question.row.id))
    return counted


def _expected_answer(counter: TokenCounter, labels: tuple[str, ...]) -> int:
    return max(counter.count(json.dumps({"label": label})) for label in labels)


class _Known:
    """The keys in a file of answers; none where there is no file, which is not made."""

    def __init__(self, path: Path) -> None:
        self._journal = AnswerJournal(path) if path.exists() else None

    def __enter__(self) -> _Known:
        if self._journal is not None:
            self._journal.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        if self._journal is not None:
            self._journal.__exit__(None, None, None)

    def __contains__(self, key: bytes) -> bool:
        return self._journal is not None and self._journal.find(key) is not None
