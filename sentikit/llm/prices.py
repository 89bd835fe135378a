"""Prices and end dates of models, in one dated table, and the costs of requests."""

from __future__ import annotations

import difflib
import functools
import json
import os
import re
import urllib.parse
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from sentikit.chat import Answer, ChatRequest, Usage
from sentikit.components import ComponentSettings, Problem, refuse, validate
from sentikit.errors import InputError
from sentikit.llm.backend import LLMBackend
from sentikit.terminal import usd_text

MODELS_VARIABLE = "SENTIKIT_MODELS"
#: Days before a model's end from which a warning is given.
WARNING_DAYS = 90
#: Amount is counted in whole picodollars (1e-12 USD): sums are exact in any order.
PICODOLLARS = 10**12
STANDARD_TIERS = frozenset({None, "auto", "default", "standard", "scale"})

# Chat templates add tokens to every message (OpenAI: three and the role) and before the answer.
_PER_MESSAGE, _OPENING = 4, 3
# Undocumented tokens that a provider may add; for upper bounds only.
_SLACK = 32
#: Tokens, such as a system message, that a server without usage reports may add to every prompt.
_HIDDEN = 256

_TABLE = "sentikit's models.yaml"
#: Suffix of a host name to the provider's name in the table.
_PROVIDERS = {".azure.com": "azure", ".azure-api.net": "azure"}
_AZURE_FINE_TUNED = re.compile(r"(?P<base>.+)\.ft-[0-9a-z-]+")
_DATED = re.compile(r"(?P<name>.+?)-\d{4}-\d{2}-\d{2}")


def usd(picodollars: int) -> float:
    """Convert millionths of a millionth of a dollar to dollars."""
    return picodollars / PICODOLLARS


def picodollars(dollars: float) -> int:
    return int(Decimal(str(dollars)) * PICODOLLARS)


class LongPrompt(ComponentSettings):
    """Price factors for requests with a long prompt."""

    over: int = Field(description="tokens of a prompt above which the factors apply")
    prompt: float = Field(1, description="factor on the prices of prompt tokens")
    completion: float = Field(1, description="factor on the price of completion tokens")


class TierPrices(ComponentSettings):
    """Prices of a service tier, in USD per million tokens."""

    prompt: float = Field(ge=0, description="of prompt tokens")
    completion: float = Field(ge=0, description="of answers' tokens, reasoning included")
    cached: float | None = Field(None, ge=0, description="read from a cache; null: as prompt")
    cache_writes: float | None = Field(None, ge=0, description="written to it; null: as prompt")


class Prices(TierPrices):
    """Prices in USD per million tokens; also the form of a recipe's ``llm.prices``."""

    tiers: dict[str, float | TierPrices] = Field({}, description="of a service tier, or a factor")
    long_prompt: LongPrompt | None = Field(None, description="factors for long prompts")

    def cost(self, usage: Usage | None, tier: str | None = None) -> int | None:
        """Return the cost of `usage` in picodollars; None where it or the price is unknown."""
        if usage is None:
            return 0 if self.free else None
        prices: TierPrices | float | None = self
        if tier not in STANDARD_TIERS:
            prices = self.tiers.get(str(tier))
        if prices is None:
            return None
        factor = Decimal(1)
        if not isinstance(prices, TierPrices):
            prices, factor = self, Decimal(str(prices))
        long = self.long_prompt
        if long is None or usage.prompt <= long.over:
            long = LongPrompt(over=0)
        plain = usage.prompt - usage.cached - usage.cache_writes
        tokens_in = (
            _of(prices.prompt, plain)
            + _of(_or(prices.cached, prices.prompt), usage.cached)
            + _of(_or(prices.cache_writes, prices.prompt), usage.cache_writes)
        )
        tokens_out = _of(prices.completion, usage.completion)
        total = tokens_in * Decimal(str(long.prompt)) + tokens_out * Decimal(str(long.completion))
        return round(total * factor)

    @property
    def free(self) -> bool:
        return not (self.prompt or self.completion or self.cached or self.cache_writes)

    def worst(self, prompt: int, completion: int, tier: str | None = None) -> int | None:
        """Return the most that a request of so many tokens can cost, in picodollars."""
        written = self.cost(Usage(prompt, 0, completion, prompt), tier)
        plain = self.cost(Usage(prompt, 0, completion), tier)
        return None if written is None or plain is None else max(written, plain)


def _of(price: float, tokens: int) -> Decimal:
    """Return picodollars: a price per million tokens equals microdollars per token."""
    return Decimal(str(price)) * 10**6 * tokens


def _or(price: float | None, other: float) -> float:
    return other if price is None else price


class TokenCount(NamedTuple):
    """Tokens of one request's prompt: the expected number and an upper bound."""

    expected: int
    most: int


class TokenCounter:
    """Counts with o200k, the tokenizer of OpenAI's models since GPT-4o.

    For other models the count is an estimate, and the upper bound is the number of UTF-8 bytes: a
    byte-level tokenizer never produces more tokens than bytes.
    """

    def __init__(self, tokenizer: str) -> None:
        self._known = tokenizer == "o200k_base"

    @property
    def exact(self) -> bool:
        """Whether counts are exact for the model."""
        return self._known and _o200k() is not None

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        encode = _o200k()
        if encode is None:
            return -(-len(text.encode("utf-8", "replace")) // 4)
        return len(encode(text))

    def request(self, request: ChatRequest, sent: Mapping[str, Any] | None = None) -> TokenCount:
        """Count a request's prompt; `sent` is the whole request, for the upper bound."""
        contents = [message.content for message in request.messages]
        framing = _PER_MESSAGE * len(contents) + _OPENING
        expected = sum(self.count(content) for content in contents) + framing
        beside = json.dumps(_without_messages(sent or {}), ensure_ascii=False)
        if self.exact:
            return TokenCount(expected, expected + _tokens_beside(beside) + _SLACK)
        size = sum(len(content.encode("utf-8", "replace")) for content in contents)
        extra = len(beside.encode("utf-8", "replace")) + 4 * framing + _SLACK
        return TokenCount(expected, size + extra)


def _without_messages(sent: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_messages(value) if key == "body" else value
        for key, value in sent.items()
        if key != "messages"
    }


@functools.lru_cache(maxsize=64)
def _tokens_beside(text: str) -> int:
    # Most requests send the same text beside their messages, hence the cache.
    return len(_o200k()(text))


@functools.cache
def _o200k() -> Any:
    """Return the encoder, or None if its package has no build for this platform."""
    try:
        with warnings.catch_warnings():
            # It calls an importlib.resources function that Python 3.11 and 3.12 deprecate.
            warnings.simplefilter("ignore", DeprecationWarning)
            import bpe_openai
    except ImportError:
        return None
    # encode_ordinary: the names of special tokens in a review are ordinary text.
    return bpe_openai.get_encoding("o200k_base").encode_ordinary


@dataclass(frozen=True)
class Pricing:
    """Actual and worst-case costs of the calls to one model in picodollars; None if unknown.

    Attributes:
        any_tier: whether a tier without its own price costs as much as the requested tier.
    """

    backend: LLMBackend
    prices: Prices | None
    counter: TokenCounter
    any_tier: bool = False

    def worst(
        self, request: ChatRequest, sent: Mapping[str, Any], tier: str | None = None
    ) -> int | None:
        """Return the most that a request can cost; `sent` is its canonical form."""
        if self.prices is None or self.prices.free:
            return None if self.prices is None else 0
        prompt = self.counter.request(request, sent).most
        return self.prices.worst(prompt, request.max_tokens, tier or self.backend.service_tier)

    def worst_answered(self, request: ChatRequest, sent: Mapping[str, Any], answer: Answer) -> int:
        """Return the most that an answer of unknown usage can have cost."""
        assert self.prices is not None
        prompt = self.counter.request(request, sent).most + _HIDDEN
        # Visible reasoning in the answer may exceed the token limit.
        completion = max(request.max_tokens, self.counter.count(answer.raw))
        return self.prices.worst(prompt, completion, self.backend.service_tier) or 0

    def cost(self, answer: Answer, tier: str | None = None) -> int | None:
        """Return the cost of an answer: the listed price or the billed cost, if that is higher."""
        cost = None
        if self.prices is not None:
            cost = self.prices.cost(answer.usage, tier or answer.service_tier)
            if cost is None and self.any_tier:
                cost = self.prices.cost(answer.usage, self.backend.service_tier)
        if answer.billed_usd is None:
            return cost
        return max(cost or 0, picodollars(answer.billed_usd))


class Lifecycle(ComponentSettings):
    """A provider's end dates of a model."""

    ends: date | None = None
    successor: str = ""
    fine_tuning_ends: date | None = None


class ModelFacts(Lifecycle):
    """The facts about a model in `models.yaml`; the defaults mean unknown.

    Attributes:
        prompt, completion, cached, cache_writes, tiers, long_prompt: see `Prices`.
        training: USD per million tokens of fine-tuning data.
        context: maximum tokens of prompt and answer together.
        most_completion: maximum tokens of an answer.
        ends: the day it is switched off.
        successor: the replacement that its provider names.
        training_context: maximum tokens of a fine-tuning example.
        fine_tunable: False if the model is known not to support fine-tuning.
        fine_tuning_ends: last day for new fine-tuning jobs.
        reasoning: whether it reasons before it answers.
        tokenizer: its name, or "".
        providers: end dates at other providers.
        name: as the user wrote it.
        as_of: the day the prices were checked, or None if their source gives no date.
        source: the file or package that the prices are from; "" for an unknown model.
    """

    prompt: float | None = Field(None, ge=0)
    completion: float | None = Field(None, ge=0)
    cached: float | None = Field(None, ge=0)
    cache_writes: float | None = Field(None, ge=0)
    tiers: dict[str, float | TierPrices] = Field(default_factory=dict)
    long_prompt: LongPrompt | None = None
    training: float | None = Field(None, ge=0)
    context: int | None = Field(None, gt=0)
    most_completion: int | None = Field(None, gt=0)
    training_context: int | None = Field(None, gt=0)
    fine_tunable: bool = True
    reasoning: bool = False
    tokenizer: str = ""
    providers: dict[str, Lifecycle] = Field(default_factory=dict)
    name: str = ""
    as_of: date | None = None
    source: str = ""

    @property
    def prices(self) -> Prices | None:
        """The prices, or None if they are unknown."""
        if self.prompt is None or self.completion is None:
            return None
        return Prices(**{key: getattr(self, key) for key in Prices.model_fields})

    def lifecycle_warning(self, today: date) -> str:
        """Return a sentence if the model has ended or ends soon, else ""."""
        if self.ends is None or (self.ends - today).days > WARNING_DAYS:
            return ""
        instead = f" Its provider recommends {self.successor}." if self.successor else ""
        if today >= self.ends:
            return f"{self.name} was switched off on {self.ends}.{instead}"
        days = (self.ends - today).days
        return (
            f"{self.name} and its fine-tuned models end on {self.ends}, in {days} days.{instead} "
            "Recorded runs can still be replayed after that."
        )


class _File(ComponentSettings):
    as_of: date
    sources: list[str] = Field(default_factory=list)
    models: dict[str, ModelFacts]


def model_facts(
    name: str, environment: Mapping[str, str] = os.environ, provider: str = ""
) -> ModelFacts:
    """Return the facts about a model: from the user's file, our table, or genai-prices."""
    for source, table in _tables(environment):
        spelling = next((known for known in _spellings(name) if known in table.models), None)
        if spelling is not None:
            entry = table.models[spelling]
            elsewhere = entry.providers.get(_provider(provider))
            changed = elsewhere.model_dump(exclude_defaults=True) if elsewhere else {}
            changed |= {"name": name, "as_of": table.as_of, "source": source}
            return entry.model_copy(update=changed)
    return _from_package(name, provider) or ModelFacts(name=name)


def recorded_models_warnings(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each model of recorded runs that has ended or ends soon."""
    warnings = []
    for manifest in manifests:
        recipe = manifest.get("recipe")
        llm = recipe.get("llm") if isinstance(recipe, Mapping) else None
        if isinstance(llm, Mapping) and isinstance(llm.get("model"), str):
            facts = model_facts(llm["model"], provider=str(llm.get("base_url") or ""))
            warnings.append(facts.lifecycle_warning(date.today()))
    return [warning for warning in dict.fromkeys(warnings) if warning]


def listed_models(
    environment: Mapping[str, str] = os.environ, provider: str = ""
) -> list[ModelFacts]:
    """Return the facts about every model in the tables and every model of a provider."""
    names = [name for _, table in _tables(environment) for name in table.models]
    names += [model.id for model in _package_models(provider)]
    return [model_facts(name, environment, provider) for name in dict.fromkeys(names)]


def _tables(environment: Mapping[str, str]) -> list[tuple[str, _File]]:
    own = environment.get(MODELS_VARIABLE)
    return [*([(own, _read(Path(own)))] if own else []), (_TABLE, _bundled())]


def _provider(address: str) -> str:
    """Return the provider's name in the table for a server's address; "" for the maker."""
    host = urllib.parse.urlsplit(address).hostname or ""
    return next((name for suffix, name in _PROVIDERS.items() if host.endswith(suffix)), "")


def _package_models(address: str) -> list[Any]:
    if not address:
        return []
    from genai_prices import data_snapshot

    try:
        return list(data_snapshot.get_snapshot().find_provider("", None, address).models)
    except LookupError:
        return []


@functools.cache
def _from_package(name: str, address: str) -> ModelFacts | None:
    # Only a known address identifies the provider.
    if not _package_models(address):
        return None
    import genai_prices
    from genai_prices import data_snapshot

    try:
        provider, model = data_snapshot.get_snapshot().find_provider_model(
            name, None, None, address
        )
    except LookupError:
        return None
    now = datetime.now(UTC)
    prices = _package_prices(model.get_prices(now))
    batch = _package_prices(model.get_prices(now, {"processing": "batch"}))
    tiers = {"batch": TierPrices(**batch)} if prices and batch and batch != prices else {}
    return ModelFacts(
        name=name,
        **prices,
        tiers=tiers,
        context=model.context_window,
        source=f"genai-prices {genai_prices.__version__} ({provider.id})",
    )


def _package_prices(found: Any) -> dict[str, Any]:
    """Return flat prices per million tokens; empty if they are tiered or missing."""
    named = {
        "prompt": found.input_mtok,
        "completion": found.output_mtok,
        "cached": found.cache_read_mtok,
        "cache_writes": found.cache_write_mtok,
    }
    flat = {name: float(price) for name, price in named.items() if isinstance(price, Decimal)}
    return flat if {"prompt", "completion"} <= flat.keys() else {}


def _spellings(name: str) -> list[str]:
    """Return the names a model may be listed under, the most specific first."""
    if name.startswith("ft:"):
        base = name.removeprefix("ft:").split(":")[0]
        return [name, *(f"ft:{spelling}" for spelling in _spellings(base))]
    azure = _AZURE_FINE_TUNED.fullmatch(name)
    if azure:
        return [name, *(f"ft:{spelling}" for spelling in _spellings(azure["base"]))]
    dated = _DATED.fullmatch(name)
    return [name, dated["name"]] if dated else [name]


@functools.cache
def _bundled() -> _File:
    return _read(Path(str(files("sentikit.llm") / "models.yaml")))


def _read(path: Path) -> _File:
    from sentikit.yaml_files import read_yaml_file

    document = read_yaml_file(path)
    table, problems = validate(_File, document.value)

    def describe(problem: Problem) -> str:
        line = document.lines.get(problem.path)
        return f"{path}{f', line {line}' if line else ''}: {problem}"

    refuse(problems, describe)
    assert table is not None
    return table


def prices_for(facts: ModelFacts, own: Prices | None, billed: bool) -> Prices | None:
    """Return the prices of a run: the recipe's, else the table's, else None."""
    if own is not None:
        return own
    if not billed:
        return Prices(prompt=0, completion=0)
    return facts.prices


def price_record(facts: ModelFacts, own: Prices | None, billed: bool) -> dict[str, Any] | None:
    """Return the prices of a run with their source and date; None if unknown."""
    prices = prices_for(facts, own, billed)
    if prices is None or not billed:
        return None
    as_of = None if own is not None or facts.as_of is None else facts.as_of.isoformat()
    source = "llm.prices of the recipe" if own is not None else facts.source
    return {"source": source, "as_of": as_of, **prices.model_dump(exclude_defaults=True)}


def model_hint(name: str) -> str:
    """Return a sentence with known models of similar names, or ""."""
    names = [known for known in _bundled().models if name not in known]
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.85)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def unknown_price(model: str) -> InputError:
    return InputError(
        f"--max-cost needs prices, but those of {model!r} are unknown.{model_hint(model)} Set "
        "them, in USD per million tokens: --set llm.prices.prompt=0.10 --set "
        f"llm.prices.completion=0.40, or in a file named by {MODELS_VARIABLE}."
    )


def describe_cost(cost: int | None) -> str:
    return "unknown cost" if cost is None else f"${usd_text(usd(cost))}"


def plain_usd(cost: int | None) -> float | None:
    return None if cost is None else usd(cost)
