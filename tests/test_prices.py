"""Prices of tokens, facts about models, and counting offline."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import pytest

from sentikit import InputError
from sentikit.extension import ChatRequest, Message, Usage
from sentikit.llm.prices import (
    Prices,
    TokenCounter,
    describe_cost,
    listed_models,
    model_facts,
    picodollars,
    usd,
)

MILLION = 1_000_000


AZURE = "https://mine.openai.azure.com/openai/v1"


def cost(prices: Prices, usage: Usage, tier: str | None = None) -> float:
    found = prices.cost(usage, tier)
    assert found is not None
    return usd(found)


class TestCost:
    def test_cost_counts_prompt_and_completion_tokens_per_million(self) -> None:
        prices = Prices(prompt=0.15, completion=0.60)
        assert cost(prices, Usage(prompt=2 * MILLION, completion=MILLION)) == 0.90

    def test_cached_and_cache_writing_tokens_have_their_own_prices(self) -> None:
        prices = Prices(prompt=0.10, cached=0.01, cache_writes=0.125, completion=0.50)
        usage = Usage(prompt=MILLION, cached=400_000, completion=0, cache_writes=100_000)
        assert cost(prices, usage) == pytest.approx(0.5 * 0.10 + 0.4 * 0.01 + 0.1 * 0.125)

    def test_a_service_tier_is_a_factor_or_its_own_prices(self) -> None:
        own = {"prompt": 0.25, "completion": 1.0}
        prices = Prices(prompt=0.15, completion=0.60, tiers={"batch": 0.5, "priority": own})
        usage = Usage(prompt=MILLION, completion=MILLION)
        assert cost(prices, usage, "batch") == 0.375
        assert cost(prices, usage, "priority") == 1.25
        assert cost(prices, usage, "default") == cost(prices, usage) == 0.75
        assert prices.cost(usage, "unheard-of") is None

    @pytest.mark.parametrize(
        ("dollars", "written"),
        [
            (0, "$0.00"),
            (12.5, "$12.50"),
            (0.25, "$0.2500"),
            (4e-4, "$0.0004"),
            (1e-6, "$0.000001"),
        ],
    )
    def test_a_small_cost_is_never_printed_as_zero(self, dollars: float, written: str) -> None:
        assert describe_cost(picodollars(dollars)) == written

    def test_sums_of_costs_do_not_depend_on_their_order(self) -> None:
        prices = Prices(prompt=0.1, completion=0.7)
        parts = [prices.cost(Usage(prompt=n, completion=n % 7)) or 0 for n in range(1, 500)]
        assert sum(parts) == sum(reversed(parts)) == sum(sorted(parts, key=lambda c: c % 13))
        assert picodollars(usd(sum(parts))) == sum(parts)

    def test_the_worst_case_includes_cache_writes(self) -> None:
        prices = Prices(prompt=0.10, cached=0.01, cache_writes=0.125, completion=0.50)
        assert prices.worst(MILLION, 0) == picodollars(0.125)


class TestModels:
    @pytest.mark.parametrize(
        ("name", "prompt", "completion"),
        [
            ("gpt-4o-mini-2024-07-18", 0.15, 0.60),
            ("gpt-4o-2024-08-06", 2.50, 10.00),
            ("ft:gpt-4o-mini-2024-07-18:personal::AbC123", 0.30, 1.20),
            ("ft:gpt-4o-2024-08-06:org:name:AbC123", 3.75, 15.00),
        ],
    )
    def test_the_studys_models_have_their_published_prices(
        self, name: str, prompt: float, completion: float
    ) -> None:
        prices = model_facts(name).prices
        assert prices is not None
        assert (prices.prompt, prices.completion) == (prompt, completion)
        assert cost(prices, Usage(prompt=MILLION), "batch") == prompt / 2

    def test_the_studys_models_train_at_the_papers_prices(self) -> None:
        assert model_facts("gpt-4o-mini-2024-07-18").training == 3.0
        assert model_facts("gpt-4o-2024-08-06").training == 25.0

    @pytest.mark.parametrize("name", ["llama-3.3-70b", "gpt-4o-audio-preview", "gpt-4o-minimal"])
    def test_unlisted_models_have_unknown_prices(self, name: str) -> None:
        facts = model_facts(name)
        assert (facts.prices, facts.ends, facts.as_of) == (None, None, None)

    @pytest.mark.parametrize(
        ("name", "provider", "ends"),
        [
            ("gpt-4o-mini-2024-07-18", "", date(2027, 1, 14)),
            ("gpt-4o-mini", "https://api.openai.com/v1", date(2027, 1, 14)),
            ("gpt-4o-mini", AZURE, date(2026, 10, 1)),
            ("ft:gpt-4o-mini-2024-07-18:me::x", "https://api.openai.com/v1", date(2027, 1, 14)),
            (
                "ft:gpt-4o-mini-2024-07-18:me::x",
                "https://mine.openai.azure.com/",
                date(2027, 10, 1),
            ),
            ("gpt-4o-2024-08-06.ft-0a1b2c", "https://mine.openai.azure.com/", date(2027, 10, 1)),
        ],
    )
    def test_models_end_when_their_provider_ends_them(
        self, name: str, provider: str, ends: date
    ) -> None:
        facts = model_facts(name, provider=provider)
        assert facts.ends == ends
        assert facts.source == "sentikit's models.yaml"
        assert facts.as_of == date(2026, 11, 23)

    def test_models_missing_in_the_table_have_prices_from_genai_prices(self) -> None:
        address = "https://api.mistral.ai/v1"
        facts = model_facts("mistral-small-2603", provider=address)
        assert facts.prices is not None
        assert (facts.prices.prompt, facts.prices.completion) == (0.15, 0.6)
        assert cost(facts.prices, Usage(prompt=MILLION), "batch") == 0.075
        assert facts.source.startswith("genai-prices ")
        assert "(mistral)" in facts.source
        # A model of the same name at a server of one's own has no price there.
        assert model_facts("mistral-small-2603", provider="http://localhost:8000/v1").prices is None
        assert model_facts("mistral-small-2603").prices is None
        assert "mistral-small-2603" in [m.name for m in listed_models(provider=address)]

    def test_an_unknown_model_names_similar_ones(self) -> None:
        from sentikit.llm.prices import model_hint

        assert model_hint("gpt-4o-mni").startswith(" Did you mean gpt-4o-mini")
        assert model_hint("a-model-of-ones-own") == ""

    def test_models_warn_near_their_end(self) -> None:
        facts = model_facts("gpt-4o-2024-08-06")
        assert facts.lifecycle_warning(date(2026, 9, 1)) == ""
        assert "end on 2027-01-14, in 52 days" in facts.lifecycle_warning(date(2026, 11, 23))
        assert "gpt-6-luna" in facts.lifecycle_warning(date(2026, 11, 23))
        assert "was switched off" in facts.lifecycle_warning(date(2027, 1, 14))

    def test_models_of_the_users_file_have_precedence(self) -> None:
        Path("mine.yaml").write_text(
            "as_of: 2026-12-01\nmodels:\n"
            "  llama: {prompt: 0.2, completion: 0.3, ends: 2028-01-01}\n"
            "  gpt-4o: {prompt: 9, completion: 9}\n"
        )
        environment = {"SENTIKIT_MODELS": "mine.yaml"}
        for name, price in [("llama", 0.2), ("gpt-4o-2024-08-06", 9), ("gpt-4o-mini", 0.15)]:
            prices = model_facts(name, environment).prices
            assert prices is not None
            assert prices.prompt == price
        assert model_facts("llama", environment).ends == date(2028, 1, 1)

    def test_a_malformed_models_file_names_the_place(self) -> None:
        Path("mine.yaml").write_text(
            "as_of: 2026-12-01\nmodels:\n  llama:\n    prompt: cheap\n    ends: soon\n    pr: 1\n"
        )
        with pytest.raises(InputError) as caught:
            model_facts("llama", {"SENTIKIT_MODELS": "mine.yaml"})
        sentence = caught.value.message
        assert "mine.yaml, line 4: models.llama.prompt" in sentence
        assert "line 5: models.llama.ends" in sentence
        assert "line 6: models.llama.pr: unknown key" in sentence
        with pytest.raises(InputError, match=r"nowhere.yaml does not exist"):
            model_facts("llama", {"SENTIKIT_MODELS": "nowhere.yaml"})


class TestCounting:
    def test_token_counts_are_exact_for_openais_models(self) -> None:
        counter = TokenCounter("o200k_base")
        assert counter.exact
        # Counted by tiktoken 0.9 with o200k_base.
        assert counter.count("hello world") == 2
        assert counter.count("Classification:") == 2

    def test_special_tokens_in_texts_are_counted_as_text(self) -> None:
        assert TokenCounter("o200k_base").count("<|endoftext|>") > 1

    def test_token_counts_of_the_studys_reviews_are_reproduced(self, shared_data: Path) -> None:
        with (shared_data / "merged" / "test.csv").open(newline="") as stream:
            reviews = [row["sentence"] for row in csv.DictReader(stream)]
        assert len(reviews) == 6530
        counter = TokenCounter("o200k_base")
        assert sum(counter.count(review) for review in reviews) == 119_598

    @pytest.mark.parametrize("tokenizer", ["o200k_base", ""])
    def test_token_counts_bound_what_is_sent(self, tokenizer: str) -> None:
        request = ChatRequest((Message("user", "很好 🎉 naïve " * 50),), ("a", "b"))
        plain = TokenCounter(tokenizer).request(request)
        schema = {"body": {"messages": ["left out" * 999], "response_format": {"x": "y" * 100}}}
        held = TokenCounter(tokenizer).request(request, schema)
        assert plain.expected == held.expected < plain.most < held.most < plain.most + 500
        if not tokenizer:
            assert plain.most >= len(request.messages[0].content.encode())
