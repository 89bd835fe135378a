"""Cost of a fine-tuning: tokens, counted offline, times epochs times price."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sentikit import InputError
from sentikit.extension import ModelFacts, model_facts, usd_text

from .examples import PreparedReport

if TYPE_CHECKING:
    from sentikit.extension import FinetuneComponents


#: The environment variable of the user's file of models and prices.
_MODELS_VARIABLE = "SENTIKIT_MODELS"


@dataclass(frozen=True)
class FineTuningEstimate:
    """The tokens and cost of a fine-tuning.

    Attributes:
        provider: the backend's name.
        model: the base model.
        examples: number of training examples.
        epochs: passes over them.
        tokens_per_epoch: of all examples.
        tokens: of all epochs; these are billed.
        exact: whether the model's own tokenizer counted.
        price: USD per million tokens, or None if unknown.
        usd: the cost; None if the price is unknown.
        prices_as_of: the day the price was checked, or None if the recipe gives it.
    """

    provider: str
    model: str
    examples: int
    epochs: int
    tokens_per_epoch: int
    tokens: int
    exact: bool
    price: float | None
    usd: float | None
    prices_as_of: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def to_text(self) -> str:
        """Return a readable summary."""
        about = "" if self.exact else "about "
        return "\n".join(
            [
                f"Provider  {self.provider}",
                f"Model     {self.model}",
                f"Examples  {self.examples:,}, {self.epochs} epoch{'s' * (self.epochs != 1)}",
                f"Tokens    {about}{self.tokens:,} ({self.tokens_per_epoch:,} per epoch)",
                f"Cost      {self._cost()}",
            ]
        )

    def to_line(self) -> str:
        """Return one sentence to print before anything is spent."""
        cost = "without a price per token" if self.price == 0 else f"costs {self._cost()}"
        if self.usd is None:
            cost = "at an unknown price"
        return (
            f"Fine-tuning {self.model} on {self.examples:,} examples for {self.epochs} "
            f"epoch{'s' * (self.epochs != 1)}, {self.tokens:,} tokens, {cost}."
        )

    def _cost(self) -> str:
        if self.usd is None:
            return "unknown: the model has no price; give finetune.training_price"
        if self.price == 0:
            return "nothing is billed"
        dated = f", as of {self.prices_as_of}" if self.prices_as_of else ""
        return f"about ${usd_text(self.usd)} (${self.price:g} per million{dated})"


def estimate(components: FinetuneComponents, report: PreparedReport) -> FineTuningEstimate:
    """Estimate the cost of a recipe's fine-tuning."""
    fine_tuner, facts = components.fine_tuner, model_facts(components.fine_tuner.model)
    epochs = fine_tuner.epochs(report.train.examples)
    price = training_price(components, facts)
    tokens = report.train.tokens * epochs
    dated = facts.as_of and components.options.training_price is None
    return FineTuningEstimate(
        provider=components.provider,
        model=fine_tuner.model,
        examples=report.train.examples,
        epochs=epochs,
        tokens_per_epoch=report.train.tokens,
        tokens=tokens,
        exact=report.exact,
        price=price,
        usd=cost_of(tokens, price),
        prices_as_of=facts.as_of.isoformat() if facts.as_of and dated else None,
    )


def training_price(components: FinetuneComponents, facts: ModelFacts) -> float | None:
    """Return USD per million tokens, from the recipe or the table; None if unknown."""
    if components.options.training_price is not None:
        return components.options.training_price
    return facts.training if components.fine_tuner.billed else 0.0


def cost_of(tokens: int, price: float | None) -> float | None:
    """Return the exact USD for a number of tokens; None if the price is unknown."""
    return None if price is None else float(Decimal(str(price)) * tokens / 10**6)


def refuse_cost(found: FineTuningEstimate, ceiling: float) -> None:
    """Refuse a job that costs more than the user allows.

    Raises:
        InputError: it costs more, or its price is unknown.
    """
    if found.usd is None:
        raise InputError(
            f"--max-cost needs a price, and that of training {found.model!r} is not known. Give "
            "it, in USD per million tokens: --set finetune.training_price=3, or in a file named "
            f"by {_MODELS_VARIABLE}."
        )
    if found.usd > ceiling:
        raise InputError(
            f"This would cost about ${usd_text(found.usd)} "
            f"({found.tokens:,} tokens), and --max-cost is ${ceiling:g}. Nothing was started."
        )


def refuse_ended(components: FinetuneComponents, today: date) -> str:
    """Refuse a base model that can no longer be fine-tuned; return a warning if it ends soon.

    Raises:
        InputError: the model has ended, accepts no more jobs, or cannot be fine-tuned.
    """
    facts = model_facts(components.fine_tuner.model)
    if not components.fine_tuner.billed:
        return ""
    instead = f" Its provider recommends {facts.successor}." if facts.successor else ""
    advice = f" If that is wrong, say so in a file named by {_MODELS_VARIABLE}."
    if not facts.fine_tunable:
        raise InputError(f"{facts.name} cannot be fine-tuned.{advice}")
    if facts.ends and today >= facts.ends:
        raise InputError(f"{facts.name} was switched off on {facts.ends}.{instead}{advice}")
    if facts.fine_tuning_ends and today > facts.fine_tuning_ends:
        raise InputError(
            f"{facts.name} has accepted no new fine-tuning jobs since "
            f"{facts.fine_tuning_ends}.{instead}"
            f"{advice}"
        )
    last = f" New jobs end on {facts.fine_tuning_ends}." if facts.fine_tuning_ends else ""
    warning = facts.lifecycle_warning(today)
    return f"{warning}{last}" if warning else ""
