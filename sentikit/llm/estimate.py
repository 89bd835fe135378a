"""The offline estimate of a job's tokens and cost; no call is made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sentikit.classifiers.prediction import Usage
from sentikit.llm.backend import ChatRequest
from sentikit.llm.prices import model_facts, plain_usd
from sentikit.llm.requests.batches import BATCH_TIER
from sentikit.llm.requests.budget import Amount
from sentikit.llm.requests.calls import LLMMember
from sentikit.terminal import usd_text

#: A generous count of the tokens that ask again after an invalid answer.
_REPAIR_TOKENS = 64


@dataclass(frozen=True)
class Estimate:
    """Token counts and costs; the costs are None where the price is unknown.

    ``most_usd`` is the cost if every answer reaches the token limit and every one is repaired.
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
        return asdict(self)

    def to_text(self) -> str:
        about = "" if self.exact else "about "
        again = f", {self.repeated:,} repeated" if self.repeated else ""
        lines = [
            f"Model              {self.model}",
            f"Requests           {self.requests:,} ({self.cached:,} more in the cache{again})",
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
            return "unknown: set the model's prices, llm.prices.prompt and llm.prices.completion"
        expected, most = usd_text(self.expected_usd), usd_text(self.most_usd)
        dated = f" (prices of {self.prices_as_of})" if self.prices_as_of else ""
        return f"about ${expected}, at most ${most}{dated}"


class EstimateCollector:
    """Counts the requests to one LLM instead of sending them."""

    def __init__(self, member: LLMMember, batch: bool = False) -> None:
        self._backend, self._options = member.backend, member.options
        self._prices, self._counter = member.budget.prices, member.budget.counter
        self._tier = BATCH_TIER if batch else member.backend.service_tier
        self.known = self._repeated = 0
        self._seen: set[bytes] = set()
        self._usage, self._most = Usage(), Amount()
        self._longest = (0, "")

    async def begin(self) -> None:
        """Do nothing: an estimate waits for no batch."""

    def add(self, row: int, key: bytes, request: ChatRequest) -> None:
        if key in self._seen:
            self._repeated += 1
            return
        self._seen.add(key)
        tokens = self._counter.request(request, self._backend.canonical(request))
        label = max(self._counter.count(json.dumps({"label": name})) for name in request.labels)
        self._usage += Usage(tokens.expected, 0, request.expected_tokens + label)
        self._add_worst(tokens.most, request, self._tier)
        if self._options.repair:
            # Repairs are live calls even after a batch; they add the answer and a question.
            longer = tokens.most + request.max_tokens + _REPAIR_TOKENS
            self._add_worst(longer, request, self._backend.service_tier)
        self._longest = max(self._longest, (tokens.expected, request.example_id))

    def _add_worst(self, prompt: int, request: ChatRequest, tier: str | None) -> None:
        prices = self._prices
        self._most.add(None if prices is None else prices.worst(prompt, request.max_tokens, tier))

    def estimate(self) -> Estimate:
        prices, backend = self._prices, self._backend
        facts = model_facts(backend.model, provider=backend.provider)
        expected = prices.cost(self._usage, self._tier) if prices else None
        dated = facts.as_of is not None and self._options.prices is None
        return Estimate(
            model=backend.model,
            requests=len(self._seen),
            cached=self.known,
            repeated=self._repeated,
            prompt_tokens=self._usage.prompt,
            completion_tokens=self._usage.completion,
            exact=self._counter.exact,
            longest_prompt=self._longest[0],
            longest_id=self._longest[1],
            context=facts.context,
            expected_usd=plain_usd(expected),
            most_usd=plain_usd(self._most.known) if prices else None,
            prices_as_of=facts.as_of.isoformat() if facts.as_of and dated else None,
        )
