"""Which check belongs to which hook. A new kind of part is added here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sentikit.classifiers.encoder import EncoderOptions
from sentikit.classifiers.head import HeadOptions
from sentikit.datasets.opening import DatasetOptions
from sentikit.llm.section import LLMOptions, StrategyOptions
from sentikit.testing.backends import check_llm_backend
from sentikit.testing.classifiers import check_classifier
from sentikit.testing.datasets import check_dataset
from sentikit.testing.encoders import check_encoder
from sentikit.testing.engines import check_engine
from sentikit.testing.formats import check_format, check_result_format
from sentikit.testing.heads import check_head
from sentikit.testing.metrics import check_metric
from sentikit.testing.strategies import check_prompt_strategy
from sentikit.testing.trackers import check_tracker

PartCheck = Callable[[Any, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Rules:
    """How parts of one kind are checked.

    Attributes:
        check: puts a part to work, given its class and settings.
        core_keys: keys of the recipe's section that the core reads, beside ``name``.
        harmless: whether a part with default settings may be put to work unasked: it loads little
            and reaches no network.
    """

    check: PartCheck
    core_keys: Iterable[str] = ()
    harmless: bool = False


#: By hook; recipes and commands are no parts, they have no settings.
PART_CHECKS: dict[str, Rules] = {
    "register_datasets": Rules(check_dataset, DatasetOptions.model_fields),
    "register_encoders": Rules(check_encoder, EncoderOptions.model_fields),
    "register_heads": Rules(check_head, HeadOptions.model_fields, harmless=True),
    "register_classifiers": Rules(check_classifier, harmless=True),
    "register_llm_backends": Rules(check_llm_backend, ("backend", *LLMOptions.model_fields)),
    "register_prompt_strategies": Rules(
        check_prompt_strategy, StrategyOptions.model_fields, harmless=True
    ),
    "register_engines": Rules(check_engine, harmless=True),
    "register_trackers": Rules(check_tracker),
    "register_formats": Rules(check_format, ("format",), harmless=True),
    "register_result_formats": Rules(check_result_format, harmless=True),
    "register_metrics": Rules(check_metric, harmless=True),
}
