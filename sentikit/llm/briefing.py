"""What the encoder contributes to every prompt of a split, gathered before the first question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.examples import Examples
from sentikit.errors import InputError
from sentikit.llm.findings import (
    Advance,
    Findings,
    Search,
    find_out,
    identity,
    load_findings,
    save_findings,
)
from sentikit.llm.opinions import opinion_at, recorded_opinion
from sentikit.llm.retrieval import choose_examples
from sentikit.llm.split import Split
from sentikit.llm.strategy import PromptInput, RetrievedExample
from sentikit.registry import Registry
from sentikit.runs.table import Labelling

if TYPE_CHECKING:
    from sentikit.llm.strategy_parts import StrategyParts


@dataclass(frozen=True)
class Briefing:
    """The encoder's part of every prompt.

    Attributes:
        classes: the labels to choose from.
        opinion: what it says of each row, or None.
        shown: rows of `pool` that each row's prompt shows, (rows, shown), or None.
        pool: the examples there are to show.
    """

    classes: tuple[str, ...]
    opinion: Labelling | None = None
    shown: NDArray[np.int32] | None = None
    pool: tuple[RetrievedExample, ...] = ()

    def of(self, row: int, text: str) -> PromptInput:
        """Return all that a strategy may say about one row's text."""
        opinion = None if self.opinion is None else opinion_at(self.opinion, row, self.classes)
        shown = () if self.shown is None else tuple(self.pool[i] for i in self.shown[row])
        return PromptInput(text, self.classes, opinion, shown)


def brief(
    parts: StrategyParts,
    split: Split,
    registry: Registry,
    keep: Path | None = None,
    advance: Advance = lambda texts: None,
) -> Briefing:
    """Gather what the strategy needs of the encoder.

    Args:
        parts: of the recipe.
        split: the examples to label.
        registry: where to look for parts.
        keep: a file that keeps what models said, so that a resumed run asks the very same
            questions; read where it is there and fits.
        advance: told how many texts a model read since the last call.

    Raises:
        InputError: no such encoder, records that do not fit, or too few examples.
    """
    needs, options = parts.strategy.needs(), parts.strategy_options
    recorded = recorded_opinion(options, split, needs, registry) if needs.opinion else None
    asked = options.adviser if needs.opinion and recorded is None else None
    search = _search(parts, split)
    findings = _findings(split, asked, search, registry, keep, advance)
    return Briefing(
        split.classes,
        recorded or findings.opinion,
        findings.shown,
        _shown(search.examples) if search else (),
    )


def _findings(
    split: Split,
    asked: str | None,
    search: Search | None,
    registry: Registry,
    keep: Path | None,
    advance: Advance,
) -> Findings:
    if asked is None and search is None:
        return Findings()
    key = identity(split, asked, search)
    kept = load_findings(keep, key) if keep else None
    if kept is not None:
        return kept
    findings = find_out(split, asked, search, registry, advance)
    if keep is not None:
        save_findings(keep, key, findings)
    return findings


def _search(parts: StrategyParts, split: Split) -> Search | None:
    needed, options = parts.strategy.needs().examples, parts.strategy_options.examples
    if needed is None:
        return None
    encoder = options.encoder or parts.strategy_options.adviser
    assert encoder is not None
    dataset = parts.examples_dataset
    if dataset.scheme.classes != split.classes:
        raise InputError(
            f"strategy.examples.dataset has the classes {', '.join(dataset.scheme.classes)}; the "
            f"dataset to label has {', '.join(split.classes)}. Give both the same label scheme."
        )
    chosen = choose_examples(
        dataset.split(options.split, labelled=False),
        parts.dataset.split(parts.split, labelled=False),
        options.pool,
        options.seed,
        f"{dataset.name}/{options.split}",
    )
    return Search(encoder, chosen, needed)


def _shown(examples: Examples) -> tuple[RetrievedExample, ...]:
    rows = zip(examples.texts, examples.labels, strict=True)
    return tuple(RetrievedExample(text, str(label)) for text, label in rows)
